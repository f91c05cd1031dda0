//! `cargo xtask test`: installs, runs the steps, and ends with what became of each.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::install;
use crate::process::say;
use crate::steps::{ALL, Bench, Step};

/// Runs the named steps, or the default ones. Whether all passed.
pub(crate) fn run(only: &[&str]) -> Result<bool> {
    let chosen: Vec<&Step> = ALL
        .iter()
        .filter(|step| if only.is_empty() { !step.is_optional } else { only.contains(&step.name) })
        .collect();
    let began = Instant::now();
    let mut bench = Bench::new(install::for_test()?);
    println!("install took {}", shown(began.elapsed()));
    let mut results = Vec::new();
    for step in chosen {
        println!("\n=== {}: {}", step.name, step.about);
        let began = Instant::now();
        let outcome = (step.run)(&mut bench);
        let took = began.elapsed();
        if let Err(error) = &outcome {
            println!("{error:#}");
        }
        println!(
            "=== {} {} in {}",
            step.name,
            if outcome.is_ok() { "passed" } else { "FAILED" },
            shown(took)
        );
        results.push((step.name, outcome.is_ok(), took));
    }
    drop(bench);
    println!("\nstep          time  result");
    for (name, passed, took) in &results {
        println!("{name:<12} {:>5}  {}", shown(*took), if *passed { "passed" } else { "FAILED" });
    }
    println!("all together {:>5}\n", shown(began.elapsed()));
    let failed: Vec<&str> = results.iter().filter(|(_, passed, _)| !passed).map(|(name, ..)| *name).collect();
    if !failed.is_empty() {
        say(format_args!("failed; again with: cargo xtask test --only {}", failed.join(",")));
    }
    println!("{} passed, {} failed", results.len() - failed.len(), failed.len());
    Ok(failed.is_empty())
}

/// Minutes and seconds.
fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_minutes() {
        assert_eq!(shown(Duration::from_millis(5_900)), "0:05");
        assert_eq!(shown(Duration::from_secs(754)), "12:34");
    }
}
