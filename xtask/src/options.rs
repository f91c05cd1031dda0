//! What was typed.

use anyhow::{Result, bail};

use crate::install::Purpose;
use crate::steps;

/// The overview, without `--help` of one command.
pub(crate) const USAGE: &str = "\
Usage: cargo xtask <command>

  cargo xtask demo [--exit] […]           install, build in release, run the demo; further arguments go to
                                          `rentroll demo`
  cargo xtask test [--only STEP]…         install, run every check and test; `test --help` lists the steps
  cargo xtask bench [--install] […]       install the peers, build in release, measure everything; further
                                          arguments go to `rentroll bench all`
  cargo xtask install [--for demo|test]   install only; without --for: for both";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Print this.
    Help(String),
    /// Install what that purpose needs.
    Install(Purpose),
    /// Run the demo with these arguments.
    Demo(Vec<String>),
    /// Measure everything, with these arguments.
    Bench(Vec<String>),
    /// Run these steps; all default ones if none is named.
    Test(Vec<&'static str>),
}

/// Reads the command line.
pub(crate) fn parse(arguments: &[String]) -> Result<Command> {
    let Some((command, rest)) = arguments.split_first() else { bail!("which command?") };
    let wants_help = rest.iter().any(|argument| matches!(argument.as_str(), "-h" | "--help"));
    match command.as_str() {
        "-h" | "--help" | "help" => Ok(Command::Help(USAGE.to_owned())),
        "install" if wants_help => Ok(Command::Help(USAGE.to_owned())),
        "install" => Ok(Command::Install(parse_purpose(rest)?)),
        "demo" => Ok(Command::Demo(rest.to_vec())),
        "bench" if wants_help => Ok(Command::Help(USAGE.to_owned())),
        "bench" => Ok(Command::Bench(rest.to_vec())),
        "test" if wants_help => Ok(Command::Help(test_help())),
        "test" => Ok(Command::Test(parse_steps(rest)?)),
        other => bail!("unknown command `{other}`"),
    }
}

fn parse_purpose(arguments: &[String]) -> Result<Purpose> {
    match values_of("--for", arguments)?.as_slice() {
        [] => Ok(Purpose::Test),
        [purpose] => match purpose.as_str() {
            "demo" => Ok(Purpose::Demo),
            "test" => Ok(Purpose::Test),
            other => bail!("--for takes `demo` or `test`, not `{other}`"),
        },
        _ => bail!("--for was given more than once; `--for test` includes what the demo needs"),
    }
}

fn parse_steps(arguments: &[String]) -> Result<Vec<&'static str>> {
    let mut chosen = Vec::new();
    for value in values_of("--only", arguments)? {
        for name in value.split(',') {
            match steps::ALL.iter().find(|step| step.name == name) {
                Some(step) => chosen.push(step.name),
                None => bail!("no step is called `{name}`; there are {}", steps::names()),
            }
        }
    }
    Ok(chosen)
}

/// The values of a flag that may be written `--flag value` or `--flag=value`; anything else is an error.
fn values_of(flag: &str, arguments: &[String]) -> Result<Vec<String>> {
    let mut values = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == flag {
            match rest.next() {
                Some(value) => values.push(value.clone()),
                None => bail!("{flag} needs a value"),
            }
        } else if let Some(value) = argument.strip_prefix(flag).and_then(|tail| tail.strip_prefix('=')) {
            values.push(value.to_owned());
        } else {
            bail!("unexpected argument `{argument}`");
        }
    }
    Ok(values)
}

fn test_help() -> String {
    let mut text = String::from(
        "Usage: cargo xtask test [--only STEP[,STEP…]]…\n\nWithout --only every step runs but the optional ones. A step that fails does not stop the next.\n\nSteps:\n",
    );
    for step in steps::ALL {
        let optional = if step.is_optional { " (optional)" } else { "" };
        text.push_str(&format!("  {:<12} {}{optional}\n", step.name, step.about));
    }
    text.push_str("\nExamples:\n  cargo xtask test\n  cargo xtask test --only fmt,clippy\n  cargo xtask test --only page");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_demo_keeps_every_argument_for_the_binary() {
        let Command::Demo(arguments) = parsed("demo --exit --help --data-dir /x").unwrap() else {
            panic!("not a demo")
        };
        assert_eq!(arguments, ["--exit", "--help", "--data-dir", "/x"]);
    }

    #[test]
    fn steps_can_be_chosen_in_every_usual_spelling() {
        let expected = Command::Test(vec!["fmt", "clippy", "page"]);
        assert_eq!(parsed("test --only fmt,clippy --only=page").unwrap(), expected);
    }

    #[test]
    fn wrong_use_is_named() {
        let message = |line: &str| parsed(line).unwrap_err().to_string();
        assert!(message("test --only fnt").contains("no step is called `fnt`; there are fmt, "));
        assert!(message("test --only").contains("--only needs a value"));
        assert!(message("test fmt").contains("unexpected argument `fmt`"));
        assert!(message("install --for dinner").contains("not `dinner`"));
        assert!(message("deploy").contains("unknown command `deploy`"));
    }

    #[test]
    fn install_without_a_purpose_is_for_everything() {
        assert_eq!(parsed("install").unwrap(), Command::Install(Purpose::Test));
        assert_eq!(parsed("install --for demo").unwrap(), Command::Install(Purpose::Demo));
    }
}
