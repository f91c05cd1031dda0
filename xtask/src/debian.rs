//! Debian packages: only what is missing, as root or through `sudo -n`, else the line to type.

use anyhow::{Result, bail};

use crate::chdb;
use crate::install::Purpose;
use crate::process::{Run, find, say};

/// Something that must be on the machine, wherever it came from.
struct Need {
    /// For messages.
    what: &'static str,
    /// The packages that bring it.
    packages: &'static [&'static str],
    /// Whether it is there. A command on PATH counts, from whatever package.
    is_present: fn() -> bool,
    /// What it is for.
    purpose: Purpose,
}

const NEEDS: &[Need] = &[
    // librdkafka is built from source by its own configure and make, and its configure insists on C++.
    Need { what: "make", packages: &["make"], is_present: || find("make").is_some(), purpose: Purpose::Demo },
    Need {
        what: "a C++ compiler",
        packages: &["g++"],
        is_present: || find("c++").is_some(),
        purpose: Purpose::Demo,
    },
    // The client of the registry that carries the ClickHouse engine library: not needed once that is cached.
    Need { what: "npm", packages: &["npm"], is_present: has_npm_or_its_package, purpose: Purpose::Demo },
    Need { what: "npm", packages: &["npm"], is_present: || find("npm").is_some(), purpose: Purpose::Test },
    Need { what: "curl", packages: &["curl"], is_present: || find("curl").is_some(), purpose: Purpose::Test },
    // Kafka over TLS, which the tests build in and the demo does without.
    Need {
        what: "OpenSSL's headers",
        packages: &["libssl-dev", "pkg-config"],
        is_present: || Run::new("pkg-config").args(["--exists", "openssl"]).succeeds(),
        purpose: Purpose::Test,
    },
    // A Kafka 4 broker needs Java 17.
    Need {
        what: "Java 17",
        packages: &["default-jre-headless"],
        is_present: has_java_17,
        purpose: Purpose::Test,
    },
    Need {
        what: "Maven",
        packages: &["maven"],
        is_present: || find("mvn").is_some(),
        purpose: Purpose::Test,
    },
    Need {
        what: "Python 3 with venv",
        packages: &["python3", "python3-venv"],
        is_present: || Run::new("python3").args(["-c", "import venv, ensurepip"]).succeeds(),
        purpose: Purpose::Test,
    },
    Need {
        what: "Chromium",
        packages: &["chromium"],
        is_present: || find("chromium").is_some(),
        purpose: Purpose::Test,
    },
    // `rentroll torture` steps clocks with it.
    Need {
        what: "libfaketime",
        packages: &["libfaketime"],
        is_present: has_libfaketime,
        purpose: Purpose::Test,
    },
    Need {
        what: "promtool",
        packages: &["prometheus"],
        is_present: || find("promtool").is_some(),
        purpose: Purpose::Test,
    },
];

/// Installs as root. policy-rc.d keeps servers that come along from starting by themselves; it is put in place
/// only if the machine has none, and taken away again however this ends. Lists are fetched only if the
/// packages cannot be had without.
const SCRIPT: &str = r#"
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
# A package's hundred lines of unpacking are dropped; errors come on stderr.
install() { apt-get install -y -qq --no-install-recommends "$@" > /dev/null; }
if ! apt-get install -s -qq --no-install-recommends "$@" > /dev/null 2>&1 || ! install "$@"; then
    apt-get update -qq
    install "$@"
fi
"#;

/// Whether nothing is missing for that purpose.
pub(crate) fn is_ready(purpose: Purpose) -> bool {
    missing(purpose).is_empty()
}

/// Installs what is missing.
///
/// # Errors
/// Without root or sudo, or without apt-get: names what is missing and the line that brings it.
pub(crate) fn ensure(purpose: Purpose) -> Result<()> {
    let needs = missing(purpose);
    if needs.is_empty() {
        return Ok(());
    }
    let what = needs.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    let mut packages: Vec<&str> = needs.iter().flat_map(|need| need.packages.iter().copied()).collect();
    packages.sort_unstable();
    packages.dedup();
    if find("apt-get").is_none() {
        bail!("missing: {what}; this is not a Debian machine (no apt-get), so install them by its own means");
    }
    let prefix: &[&str] = if is_root() {
        &[]
    } else if find("sudo").is_some() && Run::new("sudo").args(["-n", "true"]).succeeds() {
        &["sudo", "-n"]
    } else {
        let line =
            format!("apt-get update && apt-get install --no-install-recommends {}", packages.join(" "));
        bail!(
            "missing: {what}; this is neither root nor allowed to sudo without a password. As root, run:\n\n    {line}\n\nthen try again"
        );
    };
    say(format_args!("installing Debian packages (a minute or two): {}", packages.join(" ")));
    let words: Vec<&str> = [prefix, &["sh", "-c", SCRIPT, "xtask"], &packages].concat();
    Run::new(words[0]).args(&words[1..]).run_on_stderr().map_err(|error| {
        // The script itself would fill the screen and hide apt's own words above it.
        let status = error.to_string().rsplit(": ").next().unwrap_or_default().to_owned();
        anyhow::anyhow!("apt-get could not install {}: {status}", packages.join(" "))
    })?;
    let still = missing(purpose);
    if let Some(need) = still.first() {
        bail!("{} is still missing after installing {}", need.what, need.packages.join(" "));
    }
    Ok(())
}

fn missing(purpose: Purpose) -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| purpose.includes(need.purpose) && !(need.is_present)()).collect()
}

fn has_npm_or_its_package() -> bool {
    find("npm").is_some() || chdb::is_ready().unwrap_or(false)
}

fn has_libfaketime() -> bool {
    let mut folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders.any(|folder| folder.path().join("faketime/libfaketimeMT.so.1").is_file())
}

fn is_root() -> bool {
    Run::new("id").arg("-u").output().is_ok_and(|id| id.trim() == "0")
}

fn has_java_17() -> bool {
    // `java --version` (two dashes) prints to stdout, since Java 9: "openjdk 17.0.15 2025-04-15".
    let version = Run::new("java").arg("--version").output();
    version.is_ok_and(|text| text.split_whitespace().nth(1).and_then(major).is_some_and(|major| major >= 17))
}

fn major(version: &str) -> Option<u32> {
    version.split(['.', '-', '+']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_by_their_first_number() {
        assert_eq!(major("17.0.15"), Some(17));
        assert_eq!(major("21"), Some(21));
        assert_eq!(major("22-ea"), Some(22));
        assert_eq!(major("openjdk"), None);
    }

    #[test]
    fn the_tests_need_all_that_the_demo_needs() {
        let of = |purpose: Purpose| NEEDS.iter().filter(|need| purpose.includes(need.purpose)).count();
        assert_eq!(of(Purpose::Demo), 3);
        assert_eq!(of(Purpose::Test), NEEDS.len());
    }

    #[test]
    fn the_install_script_is_valid_shell() {
        Run::new("sh").args(["-n", "-c", SCRIPT]).run().unwrap();
    }
}
