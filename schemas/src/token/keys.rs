//! The tokens that are good now, read again when their file changes, and who holds them.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use chrono::{DateTime, Utc};

use super::file::{self, FileError};
use super::{Grant, Refused, Sends, Token, id_of};

/// Who holds a token: for whom a request speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// The token's id, or `cert-<name>`: it stands in the places of rejects.
    pub id: Arc<str>,
    /// What it may do.
    pub grant: Arc<Grant>,
}

impl Speaker {
    /// The holder of a certificate for the DNS name `name`.
    pub fn of_certificate(name: &str) -> Self {
        let grant = Grant::Source { source: name.to_owned(), backfill: false };
        Speaker { id: format!("cert-{name}").into(), grant: Arc::new(grant) }
    }

    /// The tenant that it is bound to.
    pub fn tenant(&self) -> Option<&str> {
        self.grant.tenant()
    }

    /// The source that its events are counted under where they do not say so themselves.
    pub fn source(&self) -> &str {
        self.grant.source().unwrap_or("http")
    }

    /// Whether its events may be older than the window.
    pub fn backfill(&self) -> bool {
        matches!(self.grant.sends(), Sends::Source { backfill: true, .. })
    }
}

/// The tokens that are good now, and the names that they keep for themselves.
pub struct Keys {
    path: PathBuf,
    /// Names kept for sources that have no token here.
    reserved: Vec<String>,
    loaded: RwLock<Arc<Loaded>>,
    /// How the file looked when it could not be used, so that this is told once.
    unusable: Mutex<Option<Stamp>>,
}

/// Names of trusted sources. A tenant that could use one could send an event of its own under the id that the
/// trusted source will use, and have that taken for the duplicate.
pub struct Reserved(Arc<Loaded>);

impl Reserved {
    /// The trusted source that `source` belongs to.
    pub fn owner(&self, source: &str) -> Option<&str> {
        let name = source.split('/').next().unwrap_or(source);
        self.0.sources.get(name).map(String::as_str)
    }
}

struct Loaded {
    /// How the file looked when it was read.
    stamp: Stamp,
    by_id: HashMap<String, (Token, Speaker)>,
    sources: HashSet<String>,
}

/// What changes when a file does: time, length, inode. `None` if there is no file.
type Stamp = Option<(SystemTime, u64, u64)>;

impl Keys {
    /// Reads the file at `path`; no file is no tokens.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(path: PathBuf, reserved: Vec<String>) -> Result<Self, FileError> {
        let loaded = read(&path, &reserved)?;
        Ok(Keys { path, reserved, loaded: RwLock::new(Arc::new(loaded)), unusable: Mutex::default() })
    }

    /// Reads the file again if it looks different; whether it did. Somebody must do so now and then, and after a
    /// change that is to be in force at once. Blocking, for as long as a small file takes.
    ///
    /// # Errors
    /// [`FileError`]; the tokens read before stay in force.
    pub fn refresh(&self) -> Result<bool, FileError> {
        let mut unusable = self.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.path).ok();
        if now == Some(self.loaded().stamp) || (now.is_some() && now == *unusable) {
            return Ok(false);
        }
        let loaded = read(&self.path, &self.reserved).inspect_err(|_| *unusable = now)?;
        *unusable = None;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        Ok(true)
    }

    /// Who holds `secret`.
    ///
    /// # Errors
    /// Why nobody does.
    pub fn speaker(&self, secret: &str, now: DateTime<Utc>) -> Result<Speaker, Refused> {
        let loaded = self.loaded();
        let id = id_of(secret).ok_or(Refused::Unknown)?;
        let (token, speaker) = loaded.by_id.get(id).ok_or(Refused::Unknown)?;
        token.admits(secret, now)?;
        Ok(speaker.clone())
    }

    /// The names that no tenant's token may use as a source.
    pub fn reserved(&self) -> Reserved {
        Reserved(self.loaded())
    }

    fn loaded(&self) -> Arc<Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(path: &Path, reserved: &[String]) -> Result<Loaded, FileError> {
    // Looked at before it is read: a change in between is noticed the next time.
    let stamp = stamp(path).map_err(|error| FileError::Read { path: path.to_owned(), error })?;
    let tokens = file::read(path)?;
    let mut sources: HashSet<String> = reserved.iter().cloned().collect();
    let mut by_id = HashMap::new();
    for token in tokens.tokens {
        sources.extend(token.grant.source().map(str::to_owned));
        let speaker = Speaker { id: token.id.as_str().into(), grant: Arc::new(token.grant.clone()) };
        by_id.insert(token.id.clone(), (token, speaker));
    }
    Ok(Loaded { stamp, by_id, sources })
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some((found.modified()?, found.len(), found.ino()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tokens;
    use super::*;

    fn write(path: &Path, tokens: &Tokens) {
        let temporary = path.with_extension("tmp");
        std::fs::write(&temporary, tokens.to_toml().unwrap()).unwrap();
        std::fs::rename(temporary, path).unwrap();
    }

    #[test]
    fn a_changed_file_is_in_force_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let now = Utc::now();
        let keys = Keys::open(path.clone(), vec!["web".into()]).unwrap();
        let grant = Grant::Source { source: "edge".into(), backfill: false };
        let (token, secret) = Token::make("a1".into(), &[1; 32], grant, String::new(), now, None);
        assert_eq!(keys.speaker(&secret, now), Err(Refused::Unknown));
        let mut tokens = Tokens { tokens: vec![token] };
        write(&path, &tokens);
        assert!(keys.refresh().unwrap());
        assert!(!keys.refresh().unwrap());
        assert_eq!(keys.speaker(&secret, now).unwrap().source(), "edge");
        for (source, reserved) in [("edge", true), ("edge/1", true), ("web/x", true), ("edge2", false)] {
            assert_eq!(keys.reserved().owner(source).is_some(), reserved, "{source}");
        }
        std::fs::write(&path, "tokens = 7").unwrap();
        assert!(keys.refresh().is_err());
        assert!(keys.speaker(&secret, now).is_ok(), "the last good file stays in force");
        tokens.tokens[0].revoked_at = Some(now);
        write(&path, &tokens);
        keys.refresh().unwrap();
        assert_eq!(keys.speaker(&secret, now), Err(Refused::Revoked));
        assert!(keys.reserved().owner("edge").is_some(), "a revoked source's name is not free");
        std::fs::remove_file(&path).unwrap();
        keys.refresh().unwrap();
        assert_eq!(keys.speaker(&secret, now), Err(Refused::Unknown));
    }
}
