//! Reading the file, then the environment over it, with errors that name key, file and line.

use std::path::{Path, PathBuf};

use super::Config;

/// Variables of this form set a key: `RENTROLL_STORE__URL` is `store.url`.
const PREFIX: &str = "RENTROLL_";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file the user named cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not TOML, has an unknown key, or a value of the wrong type.
    #[error("{path}:{line}: {detail}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Key and reason.
        detail: String,
    },
    /// A variable sets an unknown key or a bad value.
    #[error("environment variable {name}: {detail}")]
    Variable {
        /// The variable.
        name: String,
        /// Key and reason.
        detail: String,
    },
    /// A value that cannot hold.
    #[error("{place}: {key}: {reason}")]
    Rule {
        /// File and line, or `environment`.
        place: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads `path`; without one `rentroll.toml` in the working directory if it is there, else the defaults.
///
/// # Errors
/// [`ConfigError`].
pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
    let default = Path::new("rentroll.toml");
    let (text, path) = match path {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            (text, path)
        }
        None if default.exists() => {
            let text = std::fs::read_to_string(default)
                .map_err(|source| ConfigError::Read { path: default.to_owned(), source })?;
            (text, default)
        }
        None => (String::new(), default),
    };
    parse(&text, path, std::env::vars())
}

/// Reads `text`, which came from `path`, with `variables` over it.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(
    text: &str,
    path: &Path,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    // First the file alone, so that its mistakes are told with its lines.
    let mut config: Config = toml::from_str(text).map_err(|error| shape_error(text, path, &error))?;
    let mut table: toml::Table = toml::from_str(text).map_err(|error| shape_error(text, path, &error))?;
    let mut overridden = Vec::new();
    for (name, value) in variables {
        let Some(key) = name.strip_prefix(PREFIX).filter(|key| key.contains("__")) else {
            continue;
        };
        let mut key: Vec<String> = key.to_ascii_lowercase().split("__").map(str::to_owned).collect();
        if let [log, kafka, client, setting] = &mut key[..]
            && [&*log, &*kafka, &*client] == ["log", "kafka", "client"]
        {
            // A shell takes no variable with a dot in its name, and Kafka's settings have little else.
            *setting = setting.replace('_', ".");
        }
        set(&mut table, &key, literal(&value));
        config = Config::deserialize(table.clone())
            .or_else(|error| {
                // A password of digits alone is still a text.
                set(&mut table, &key, toml::Value::String(value.clone()));
                Config::deserialize(table.clone()).map_err(|_| error)
            })
            .map_err(|detail| ConfigError::Variable {
                name: name.clone(),
                detail: detail.message().to_owned(),
            })?;
        overridden.push(key.join("."));
    }
    config.base = path.parent().unwrap_or(Path::new("")).to_owned();
    config.check().map_err(|(key, reason)| {
        let place = match overridden.contains(&key) {
            true => "environment".to_owned(),
            false => format!("{}:{}", path.display(), line_of_key(text, &key)),
        };
        ConfigError::Rule { place, key, reason }
    })?;
    Ok(config)
}

use serde::Deserialize as _;

fn shape_error(text: &str, path: &Path, error: &toml::de::Error) -> ConfigError {
    let line = error.span().map_or(1, |span| line_at(text, span.start));
    let source = text.lines().nth(line - 1).unwrap_or("").trim();
    ConfigError::Shape { path: path.to_owned(), line, detail: format!("{} in `{source}`", error.message()) }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1)
}

/// The line on which `a.b.c` is set, as near as the file's text tells: the last part of the key, behind the
/// header of its section.
fn line_of_key(text: &str, key: &str) -> usize {
    // Behind [log.kafka.client] the key itself has dots, in quotes.
    let (section, last) = match key.strip_prefix("log.kafka.client.") {
        Some(setting) => ("log.kafka.client", setting),
        None => key.rsplit_once('.').unwrap_or(("", key)),
    };
    let (section, index) = match section.split_once('[') {
        Some((name, rest)) => {
            (name.to_owned(), rest.split(']').next().and_then(|index| index.parse().ok()).unwrap_or(0))
        }
        None => (section.to_owned(), 0),
    };
    let headers = [format!("[{section}]"), format!("[[{section}]]")];
    let mut seen = 0;
    let mut inside = section.is_empty();
    let mut header_line = 1;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = headers.iter().any(|header| line.starts_with(header)) && {
                seen += 1;
                seen == index + 1
            };
            if inside {
                header_line = number + 1;
            }
        } else if inside && line.split('=').next().map(|key| key.trim().trim_matches('"')) == Some(last) {
            return number + 1;
        }
    }
    header_line
}

/// A variable's value: TOML where it is a number, a boolean or a list, else text.
fn literal(value: &str) -> toml::Value {
    let parsed =
        toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut table| table.remove("v"));
    match parsed {
        Some(
            parsed @ (toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Array(_)),
        ) => parsed,
        _ => toml::Value::String(value.to_owned()),
    }
}

/// Sets a key.
fn set(table: &mut toml::Table, key: &[String], value: toml::Value) {
    let [section @ .., last] = key else { return };
    let mut table = table;
    for part in section {
        let entry = table.entry(part.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if !entry.is_table() {
            *entry = toml::Value::Table(toml::Table::new());
        }
        let toml::Value::Table(next) = entry else { return };
        table = next;
    }
    table.insert(last.clone(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        parse(text, Path::new("dir/rentroll.toml"), variables)
    }

    /// Every key of `table` stands in the template, below the header of its section.
    fn holds(section: &str, table: &toml::Table) {
        for (key, value) in table {
            let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
            if let Some(table) = value.as_table() {
                holds(&path, table);
                continue;
            }
            let mut inside = String::new();
            let there = super::super::TEMPLATE.lines().any(|line| {
                let line = line.trim_start_matches(['#', ' ']);
                if let Some(header) = line.strip_prefix('[') {
                    inside = header.trim_matches(['[', ']']).to_owned();
                }
                (inside == section && line.starts_with(&format!("{key} ="))) || line == format!("[[{path}]]")
            });
            assert!(there, "{path} is not in the template");
        }
    }

    #[test]
    fn the_template_is_the_default_and_documents_every_key() {
        let config = read(super::super::TEMPLATE, &[]).unwrap();
        let default = Config { base: "dir".into(), ..Config::default() };
        assert_eq!(config, default);
        for key in [
            "[data]",
            "[files]",
            "[log]",
            "[log.kafka]",
            "[log.kafka.client]",
            "[store]",
            "[http]",
            "[aggregator]",
        ] {
            assert!(super::super::TEMPLATE.contains(key), "{key}");
        }
        holds("", &toml::Table::try_from(default).unwrap());
        for key in ["url", "password", "library", "listen", "enabled", "cert", "key", "client_ca"] {
            assert!(super::super::TEMPLATE.contains(&format!("# {key} =")), "{key}");
        }
    }

    #[test]
    fn the_templates_sources_can_be_used() {
        let (_, rest) = super::super::TEMPLATE.split_once("[collector]").unwrap();
        let (examples, _) = rest.split_once("[collector.overflow]").unwrap();
        let text: Vec<&str> = examples
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| {
                let (key, value) = line.split_once(" = ").unwrap_or((line, ""));
                line.starts_with('[')
                    || (!value.is_empty()
                        && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
            })
            .collect();
        let config = read(&text.join("\n"), &[]).unwrap();
        let names: Vec<&str> = config.collector.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["web", "api", "jobs"]);
        assert_eq!(config.collector.sources[1].fields.measures.pairs().count(), 2);
    }

    #[test]
    fn mistakes_name_key_file_and_line() {
        for (text, expected) in [
            ("[store]\nurll = \"x\"\n", "dir/rentroll.toml:2: unknown field `urll`"),
            ("\n[log]\npartitions = \"four\"\n", "dir/rentroll.toml:3: invalid type: string \"four\""),
            ("[log]\n\npartitions = 0\n", "dir/rentroll.toml:3: log.partitions: must be from 1 to 1024"),
            ("[stor]\n", "dir/rentroll.toml:1: unknown field `stor`"),
            ("[log\n", "dir/rentroll.toml:1: "),
            (
                "[[collector.sources]]\nname = \"a\"\nkind = \"log\"\npaths = [\"a\"]\nformat = \"regex\"\npattern = \"(\"\n",
                "dir/rentroll.toml:6: collector.sources[0].pattern: regex parse error",
            ),
            (
                "[collector.overflow]\n\nshare_max = 1.5\n",
                "dir/rentroll.toml:3: collector.overflow.share_max: must be above 0",
            ),
            (
                "[log]\nkind = \"kafka\"\n[log.kafka.client]\n\"acks\" = \"1\"\n",
                "dir/rentroll.toml:4: log.kafka.client.acks: cannot be changed",
            ),
            (
                "[log]\nkind = \"kafka\"\n[log.kafka.client]\n\"sasl.mechanism\" = \"GSSAPI\"\n",
                "dir/rentroll.toml:4: log.kafka.client.sasl.mechanism: this build has no Kerberos",
            ),
            (
                "[log]\nkind = \"kafka\"\n[log.kafka]\nqueue_bytes_max = 1\n",
                "dir/rentroll.toml:4: log.kafka.queue_bytes_max: must be from",
            ),
            ("[store]\nlisten = \"0.0.0.0:1\"\n", "dir/rentroll.toml:2: store.listen: must be a loopback"),
        ] {
            let message = read(text, &[]).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn the_environment_is_over_the_file() {
        let config = read(
            "[log]\npartitions = 2\n",
            &[("RENTROLL_LOG__PARTITIONS", "8"), ("RENTROLL_STORE__URL", "http://ch:8123")],
        );
        let config = config.unwrap();
        assert_eq!((config.log.partitions, config.store.url.as_deref()), (8, Some("http://ch:8123")));
        let share = read("", &[("RENTROLL_COLLECTOR__OVERFLOW__SHARE_MAX", "0.25")]).unwrap();
        assert!(share.collector.overflow.share_max > 0.24 && share.collector.overflow.share_max < 0.26);
        let password = read("", &[("RENTROLL_STORE__PASSWORD", "12345678")]).unwrap().store.password;
        assert_eq!(password.as_deref(), Some("12345678"));
        let kafka = read("", &[("RENTROLL_LOG__KAFKA__CLIENT__SASL_PASSWORD", "123")]).unwrap().log.kafka;
        assert_eq!(kafka.client.get("sasl.password").map(String::as_str), Some("123"));
        for (name, value, expected) in [
            (
                "RENTROLL_LOG__PARTITION",
                "8",
                "environment variable RENTROLL_LOG__PARTITION: unknown field `partition`",
            ),
            (
                "RENTROLL_LOG__PARTITIONS",
                "many",
                "environment variable RENTROLL_LOG__PARTITIONS: invalid type",
            ),
            ("RENTROLL_LOG__PARTITIONS", "0", "environment: log.partitions: must be"),
        ] {
            let message = read("", &[(name, value)]).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
