//! The file of tokens on disk. A reader sees the old one or the new one, durable; changes that come at the same time,
//! from the command line and from running servers, are made one after the other: each holds the lock (`flock`) of the
//! file's folder, which the system frees if its holder dies.
//!
//! All of it blocks, a change for as long as the disk's sync takes. A change rewrites the file: it is for tokens by
//! the thousand, and bounded ([`TOKENS_MAX`]).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use rand::TryRng as _;

use super::{Grant, Token, TokenError, Tokens};

/// Most entries: some three megabytes, which every change writes and every server reads again.
pub const TOKENS_MAX: usize = 10_000;
/// How long a portal's token is kept after its end. Portals are given new ones all day; nothing that lasts names them.
const PORTAL_KEPT: TimeDelta = TimeDelta::days(1);

/// Why the file cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {path} (files.tokens): {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It does not say what it should.
    #[error("{path}: {error}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: TokenError,
    },
    /// Its folder cannot be locked.
    #[error("cannot lock {path}, the folder of files.tokens: {error}")]
    Lock {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It cannot be written; it is as it was.
    #[error("cannot write {path} (files.tokens): {error}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// There is no such token.
    #[error("no token `{id}` in {path}")]
    NoSuchToken {
        /// What was asked for.
        id: String,
        /// The file.
        path: PathBuf,
    },
    /// It has as many as it may have.
    #[error("{path} has {TOKENS_MAX} tokens, the most that it may have; let those of portals expire sooner")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// What a token was asked for cannot be.
    #[error("{field}: {reason}")]
    Grant {
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// What a token is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What it lets its holder do.
    pub grant: Grant,
    /// What it is for; may be empty.
    pub name: String,
    /// From when on it is no longer good; never if `None`.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Reads the file at `path`; no file is no tokens.
///
/// # Errors
/// [`FileError::Read`], [`FileError::Parse`].
pub fn read(path: &Path) -> Result<Tokens, FileError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(FileError::Read { path: path.to_owned(), error }),
    };
    Tokens::parse(&text).map_err(|error| FileError::Parse { path: path.to_owned(), error })
}

/// Adds a token, and returns it with its secret, which is nowhere else. Servers know it when they have read the file
/// again ([`super::Keys::refresh`]).
///
/// # Errors
/// [`FileError`]; nothing was added, unless the folder alone could not be synced.
pub fn create(path: &Path, wanted: Wanted, now: DateTime<Utc>) -> Result<(Token, String), FileError> {
    let Wanted { grant, name, expires_at } = wanted;
    grant.check().map_err(|(field, reason)| FileError::Grant { field, reason })?;
    let mut secret = [0; 32];
    random(&mut secret)?;
    change(path, |tokens| {
        tokens.tokens.retain(|token| !is_forgotten(token, now));
        if tokens.tokens.len() >= TOKENS_MAX {
            return Err(FileError::Full { path: path.to_owned() });
        }
        let id = loop {
            let id = random_id()?;
            if tokens.tokens.iter().all(|token| token.id != id) {
                break id;
            }
        };
        let (token, secret) = Token::make(id, &secret, grant, name, now, expires_at);
        tokens.tokens.push(token.clone());
        Ok((token, secret))
    })
}

/// Takes a token back, and returns it. One that was taken back before stays as it is.
///
/// # Errors
/// [`FileError`]; [`FileError::NoSuchToken`] if it is not there.
pub fn revoke(path: &Path, id: &str, now: DateTime<Utc>) -> Result<Token, FileError> {
    change(path, |tokens| {
        let token = tokens.tokens.iter_mut().find(|token| token.id == id);
        let token =
            token.ok_or_else(|| FileError::NoSuchToken { id: id.to_owned(), path: path.to_owned() })?;
        token.revoked_at.get_or_insert(now);
        Ok(token.clone())
    })
}

/// Takes back, in one change, all that are good at `now` and `which` is true of; returns them.
///
/// # Errors
/// [`FileError`].
pub fn revoke_all(
    path: &Path,
    now: DateTime<Utc>,
    which: impl Fn(&Token) -> bool,
) -> Result<Vec<Token>, FileError> {
    change(path, |tokens| {
        let good = tokens.tokens.iter_mut().filter(|token| token.is_good(now));
        let revoked = good.filter(|token| which(token)).map(|token| {
            token.revoked_at = Some(now);
            token.clone()
        });
        Ok(revoked.collect())
    })
}

fn is_forgotten(token: &Token, now: DateTime<Utc>) -> bool {
    let ended_at = [token.revoked_at, token.expires_at].into_iter().flatten().min();
    matches!(token.grant, Grant::Portal { .. }) && ended_at.is_some_and(|end| now - end > PORTAL_KEPT)
}

fn random(bytes: &mut [u8]) -> Result<(), FileError> {
    rand::rngs::SysRng.try_fill_bytes(bytes).map_err(|error| FileError::Random(error.to_string()))
}

fn random_id() -> Result<String, FileError> {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut bytes = [0; 8];
    random(&mut bytes)?;
    // 36 does not divide 256: an id need not be evenly drawn, it is no secret.
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 36)])).collect())
}

/// Changes the file, for its owner's eyes only.
fn change<T>(path: &Path, change: impl FnOnce(&mut Tokens) -> Result<T, FileError>) -> Result<T, FileError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let lock = || -> io::Result<File> {
        let folder = File::open(dir)?;
        rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(folder)
    };
    let folder = lock().map_err(|error| FileError::Lock { path: dir.to_owned(), error })?;
    let before = read(path)?;
    let mut tokens = before.clone();
    let result = change(&mut tokens)?;
    if tokens != before {
        write(path, &tokens, &folder).map_err(|error| FileError::Write { path: path.to_owned(), error })?;
    }
    Ok(result)
}

fn write(path: &Path, tokens: &Tokens, folder: &File) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    // One left by a crash may have other rights.
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    if let Ok(old) = fs::metadata(path) {
        // What root changes by hand, the server can still read. Only root may; for others the file becomes theirs.
        let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
    }
    file.write_all(tokens.to_toml().map_err(io::Error::other)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    folder.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn wanted(grant: Grant, expires_at: Option<DateTime<Utc>>) -> Wanted {
        Wanted { grant, name: String::new(), expires_at }
    }

    fn portal(tenant: &str) -> Grant {
        Grant::Portal { tenant: tenant.into(), meters: vec![] }
    }

    #[test]
    fn what_is_made_is_there_and_what_is_taken_back_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let (token, secret) = create(&path, wanted(Grant::Admin { source: None }, None), at(0)).unwrap();
        assert_eq!(read(&path).unwrap().tokens, std::slice::from_ref(&token));
        assert_eq!(token.admits(&secret, at(1)), Ok(()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&path).unwrap().contains(&secret[12..]));
        assert_eq!(revoke(&path, &token.id, at(5)).unwrap().revoked_at, Some(at(5)));
        assert_eq!(revoke(&path, &token.id, at(9)).unwrap().revoked_at, Some(at(5)), "it was before");
        let message = revoke(&path, "nobody", at(9)).unwrap_err().to_string();
        assert!(message.starts_with("no token `nobody` in "), "{message}");
        let wrong = create(&path, wanted(portal(""), None), at(9)).unwrap_err();
        assert_eq!(wrong.to_string(), "tenant: must be 1 to 512 bytes");
        assert_eq!(read(&path).unwrap().tokens.len(), 1);
        fs::write(&path, "tokens = 7").unwrap();
        assert!(matches!(create(&path, wanted(portal("a"), None), at(9)), Err(FileError::Parse { .. })));
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "tokens = 7",
            "what cannot be read is not written over"
        );
    }

    #[test]
    fn of_changes_at_the_same_time_none_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        // What a crash left is not in the way.
        fs::write(path.with_extension("tmp"), "half a fi").unwrap();
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    for number in 0..5 {
                        let grant = portal(&format!("t{writer}-{number}"));
                        let (token, _) = create(path, wanted(grant, None), at(0)).unwrap();
                        if number == 0 {
                            revoke(path, &token.id, at(1)).unwrap();
                        }
                    }
                });
            }
        });
        let tokens = read(&path).unwrap().tokens;
        assert_eq!(tokens.len(), 40);
        assert_eq!(tokens.iter().filter(|token| token.revoked_at.is_some()).count(), 8);
        assert!(!path.with_extension("tmp").exists());
    }

    #[test]
    fn all_tokens_of_a_portal_are_taken_back_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        for (grant, end) in [
            (portal("acme"), None),
            (portal("acme"), Some(at(5))),
            (portal("other"), None),
            (Grant::Tenant { tenant: "acme".into() }, None),
        ] {
            create(&path, wanted(grant, end), at(0)).unwrap();
        }
        let revoked = revoke_all(&path, at(9), |token| token.grant == portal("acme")).unwrap();
        assert_eq!(revoked.len(), 1, "the other one had ended by itself");
        let good = read(&path).unwrap().tokens.into_iter().filter(|token| token.is_good(at(9)));
        assert_eq!(good.count(), 2);
        let before = fs::metadata(&path).unwrap().ino();
        assert!(revoke_all(&path, at(9), |_| false).unwrap().is_empty());
        assert_eq!(fs::metadata(&path).unwrap().ino(), before, "nothing changed, nothing was written");
    }

    #[test]
    fn ended_tokens_of_portals_are_forgotten_and_the_file_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let day = PORTAL_KEPT.num_seconds();
        create(&path, wanted(portal("acme"), Some(at(10))), at(0)).unwrap();
        create(&path, wanted(Grant::Tenant { tenant: "acme".into() }, Some(at(10))), at(0)).unwrap();
        create(&path, wanted(portal("acme"), None), at(10 + day)).unwrap();
        assert_eq!(read(&path).unwrap().tokens.len(), 3, "an ended one is kept for a day");
        create(&path, wanted(portal("acme"), None), at(11 + day)).unwrap();
        let left = read(&path).unwrap().tokens;
        assert_eq!(left.len(), 3);
        assert!(matches!(left[0].grant, Grant::Tenant { .. }), "a sender's id is not forgotten");

        let mut many = Tokens::default();
        for number in 0..TOKENS_MAX {
            many.tokens.push(Token { id: format!("t{number}"), ..left[0].clone() });
        }
        fs::write(&path, many.to_toml().unwrap()).unwrap();
        assert!(matches!(create(&path, wanted(portal("a"), None), at(0)), Err(FileError::Full { .. })));
    }
}
