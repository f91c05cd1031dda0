//! Which names are one log's: the log itself, and what rotation makes of it.
//!
//! | name | is |
//! |---|---|
//! | `access.log` | the log |
//! | `access.log.1`, `access.log.12`, `access.log.old` | rotated by number |
//! | `access.log-20261124`, `access.log.2026-11-24_03` | rotated by date |
//! | `access-20261124.log` | by date, before the extension |
//! | any of these with `.gz` behind | and compressed |

use std::path::{Path, PathBuf};

/// Digits that make a date. Fewer are somebody's own number: `shard-12.log` is no rotated `shard.log`.
const DATE_DIGITS_MIN: usize = 8;

/// Whether the file is compressed, by its name.
pub(crate) fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// The log's own path, whatever rotation made of it.
pub(crate) fn base_of(path: &Path) -> PathBuf {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return path.to_owned();
    };
    let plain = name.strip_suffix(".gz").unwrap_or(name);
    match without_suffix(plain).or_else(|| without_date_inside(plain)) {
        Some(base) => path.with_file_name(base),
        None => path.with_file_name(plain),
    }
}

/// `access.log.1` → `access.log`.
fn without_suffix(name: &str) -> Option<String> {
    if let Some(base) = name.strip_suffix(".old") {
        return Some(base.to_owned()).filter(|base| !base.is_empty());
    }
    let stamp = name.len() - name.bytes().rev().take_while(|byte| is_stamp(*byte)).count();
    // The stamp may take the dot with it, and a name such as `app.log-2026-11-24` has more than one mark.
    let (base, stamp) = name.split_at(stamp);
    let mark = stamp.as_bytes().first()?;
    let digits = stamp.bytes().filter(u8::is_ascii_digit).count();
    let by_number = *mark == b'.' && stamp.len() - 1 == digits && (1..=5).contains(&digits);
    let by_date = matches!(mark, b'.' | b'-' | b'_') && digits >= DATE_DIGITS_MIN;
    (!base.is_empty() && (by_number || by_date)).then(|| base.to_owned())
}

/// `access-20261124.log` → `access.log`.
fn without_date_inside(name: &str) -> Option<String> {
    let (stem, extension) = name.rsplit_once('.')?;
    let stamp = stem.len() - stem.bytes().rev().take_while(|byte| is_stamp(*byte)).count();
    let (base, stamp) = stem.split_at(stamp);
    let digits = stamp.bytes().filter(u8::is_ascii_digit).count();
    (!base.is_empty() && matches!(stamp.as_bytes().first()?, b'-' | b'_' | b'.') && digits >= DATE_DIGITS_MIN)
        .then(|| format!("{base}.{extension}"))
}

fn is_stamp(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.' | b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_names_lead_to_the_log() {
        for (name, base) in [
            ("/v/access.log", "/v/access.log"),
            ("/v/access.log.1", "/v/access.log"),
            ("/v/access.log.1.gz", "/v/access.log"),
            ("/v/access.log.12.gz", "/v/access.log"),
            ("/v/access.log.old", "/v/access.log"),
            ("/v/access.log-20261124", "/v/access.log"),
            ("/v/access.log-20261124.gz", "/v/access.log"),
            ("/v/access.log.2026-11-24_03:00", "/v/access.log"),
            ("/v/access.log-2026112403", "/v/access.log"),
            ("/v/access-20261124.log", "/v/access.log"),
            ("/v/access-20261124.log.gz", "/v/access.log"),
            ("/v/access.log.gz", "/v/access.log"),
            // Not rotated: other logs.
            ("/v/shard-12.log", "/v/shard-12.log"),
            ("/v/access-old.log", "/v/access-old.log"),
            ("/v/access.log.error", "/v/access.log.error"),
            ("/v/20261124", "/v/20261124"),
            ("/v/.1", "/v/.1"),
            ("/v/10.0.0.1.log", "/v/10.0.0.1.log"),
        ] {
            assert_eq!(base_of(Path::new(name)), Path::new(base), "{name}");
        }
    }
}
