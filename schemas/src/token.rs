//! Credentials of those who send usage events and read usage, and the file they are kept in.
//!
//! - [`Grant`]: what a token lets its holder do;
//! - [`file`]: reading and changing the file;
//! - [`keys`]: the tokens that are good now, for those who open a door.
//!
//! A secret is `rr_<id>_<43 letters>`: 32 random bytes in base64url. The file has its BLAKE3 hash alone; 256 random
//! bits need no slow hash. The id says which entry to compare with, so that a comparison is one hash and takes the
//! same time whatever the secret is.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub mod file;
mod grant;
pub mod keys;

pub use file::FileError;
pub use grant::{Grant, METERS_MAX, Reads, Sends};
pub use keys::{Keys, Reserved, Speaker};

/// What every secret begins with, so that one that leaks can be searched for.
const PREFIX: &str = "rr_";
/// Longest name of a trusted source, in bytes: it stands before a `/` in the events' `source`.
pub const SOURCE_BYTES_MAX: usize = 128;

/// An entry of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Stands in the secret, and names it to people and in rejects.
    pub id: String,
    /// What it is for, in the operator's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// BLAKE3 of the whole secret, in hexadecimal.
    pub hash: String,
    /// What it lets its holder do.
    #[serde(flatten)]
    pub grant: Grant,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it is no longer good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Why the file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not TOML of the right shape.
    #[error("{0}")]
    Shape(String),
    /// An entry that cannot hold.
    #[error("tokens[{index}].{field}: {reason}")]
    Entry {
        /// Which, from 0.
        index: usize,
        /// The key at fault.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why a secret is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not the secret of this token.
    #[error("the token is not known")]
    Unknown,
    /// It was taken back.
    #[error("the token was revoked")]
    Revoked,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// All of them, those that are no longer good too: their ids and sources are not given out again.
    #[serde(default)]
    pub tokens: Vec<Token>,
}

impl Token {
    /// A new one, and its secret, which is nowhere else. `id` and `random` come from a generator fit for keys.
    pub fn make(
        id: String,
        random: &[u8; 32],
        grant: Grant,
        name: String,
        created_at: DateTime<Utc>,
        expires_at: Option<DateTime<Utc>>,
    ) -> (Token, String) {
        let secret = format!("{PREFIX}{id}_{}", base64url(random));
        let hash = blake3::hash(secret.as_bytes()).to_hex().to_string();
        (Token { id, name, hash, grant, created_at, expires_at, revoked_at: None }, secret)
    }

    /// Whether `secret` is this token's, and still good at `now`.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, secret: &str, now: DateTime<Utc>) -> Result<(), Refused> {
        let kept = blake3::Hash::from_hex(&self.hash).map_err(|_| Refused::Unknown)?;
        // Hashes compare in constant time.
        if blake3::hash(secret.as_bytes()) != kept {
            return Err(Refused::Unknown);
        }
        if self.revoked_at.is_some() {
            return Err(Refused::Revoked);
        }
        if self.expires_at.is_some_and(|end| end <= now) {
            return Err(Refused::Expired);
        }
        Ok(())
    }

    /// Whether it is neither revoked nor expired at `now`.
    pub fn is_good(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| end > now)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if !is_id(&self.id) {
            return Err(("id", "must be 1 to 32 of a-z and 0-9".to_owned()));
        }
        if blake3::Hash::from_hex(&self.hash).is_err() {
            return Err(("hash", "must be 64 hexadecimal digits".to_owned()));
        }
        self.grant.check()
    }
}

impl Tokens {
    /// Reads the file's text.
    ///
    /// # Errors
    /// [`TokenError`] names the line, or the entry and its field.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let tokens: Tokens =
            toml::from_str(text).map_err(|error| TokenError::Shape(error.to_string().trim().to_owned()))?;
        let mut ids = BTreeSet::new();
        for (index, token) in tokens.tokens.iter().enumerate() {
            token.check().map_err(|(field, reason)| TokenError::Entry { index, field, reason })?;
            if !ids.insert(token.id.as_str()) {
                let reason = format!("`{}` is used twice", token.id);
                return Err(TokenError::Entry { index, field: "id", reason });
            }
        }
        Ok(tokens)
    }

    /// The file's text.
    ///
    /// # Errors
    /// [`TokenError::Shape`] if it cannot be written as TOML, which these types can.
    pub fn to_toml(&self) -> Result<String, TokenError> {
        let mut text = String::from(
            "# Who may send usage events and read usage. Written by `rentroll tokens`, read again whenever it changes.\n\
             # The secrets are not in here, only their hashes.\n\n",
        );
        let tokens = toml::to_string(self).map_err(|error| TokenError::Shape(error.to_string()))?;
        text.push_str(&tokens);
        Ok(text)
    }
}

/// The id that stands in a secret, if it has the form of one.
pub fn id_of(secret: &str) -> Option<&str> {
    let (id, random) = secret.strip_prefix(PREFIX)?.split_once('_')?;
    (is_id(id) && random.len() == 43).then_some(id)
}

/// The secret in an `authorization` header's value: `Bearer rr_…`.
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
}

/// Whether `name` can be a trusted source's.
pub fn is_source(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= SOURCE_BYTES_MAX
        && !name.contains(|letter: char| letter.is_control() || letter == '/')
}

/// Whether an event's `source` is the trusted source `name`, or a part of it: `name/…`.
pub fn belongs_to(source: &str, name: &str) -> bool {
    source.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_id(id: &str) -> bool {
    (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::with_capacity(bytes.len() * 4 / 3 + 1);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().enumerate().fold(0, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for letter in 0..=chunk.len() {
            let _ = out.write_char(char::from(LETTERS[(bits >> (18 - 6 * letter) & 63) as usize]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn sample(grant: Grant) -> (Token, String) {
        Token::make("k1".into(), &[7; 32], grant, String::new(), at(0), Some(at(100)))
    }

    #[test]
    fn encodes_as_rfc_4648_does() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (b"\xfb\xff", "-_8")]
        {
            assert_eq!(base64url(bytes), text);
        }
    }

    #[test]
    fn only_the_secret_opens_and_only_while_it_is_good() {
        let (mut token, secret) = sample(Grant::Tenant { tenant: "acme".into() });
        assert_eq!(id_of(&secret), Some("k1"));
        assert_eq!(token.admits(&secret, at(99)), Ok(()));
        assert_eq!(token.admits(&secret, at(100)), Err(Refused::Expired));
        assert_eq!(token.admits(&secret.replace('B', "C"), at(99)), Err(Refused::Unknown));
        assert_eq!(token.admits(&secret[..secret.len() - 1], at(99)), Err(Refused::Unknown));
        token.revoked_at = Some(at(50));
        assert_eq!(token.admits(&secret, at(99)), Err(Refused::Revoked));
        assert!(!token.hash.contains(&secret[6..]));
    }

    #[test]
    fn the_file_is_read_as_written_and_its_mistakes_are_named() {
        let source = Grant::Source { source: "edge".into(), backfill: true };
        let tokens = Tokens { tokens: vec![sample(source).0] };
        let text = tokens.to_toml().unwrap();
        assert_eq!(Tokens::parse(&text).unwrap(), tokens);
        assert_eq!(Tokens::parse("").unwrap(), Tokens::default());
        for (from, to, expected) in [
            ("\"k1\"", "\"K 1\"", "tokens[0].id: "),
            ("\"edge\"", "\"a/b\"", "tokens[0].source: "),
            ("hash = \"", "hash = \"zz", "tokens[0].hash: "),
            ("\"source\"", "\"root\"", "TOML parse error"),
            ("backfill = true", "backfil = true", "TOML parse error"),
            ("backfill = true", "expires = 2000-01-01", "TOML parse error"),
        ] {
            let message = Tokens::parse(&text.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
        let portal = Grant::Portal { tenant: "acme".into(), meters: vec!["bytes".into()] };
        for grant in [portal, Grant::Admin { source: None }, Grant::Service { source: Some("edge".into()) }] {
            let tokens = Tokens { tokens: vec![sample(grant).0] };
            assert_eq!(Tokens::parse(&tokens.to_toml().unwrap()).unwrap(), tokens);
        }
        let twice = Tokens { tokens: [&tokens.tokens[..], &tokens.tokens[..]].concat() };
        let message = Tokens::parse(&twice.to_toml().unwrap()).unwrap_err().to_string();
        assert_eq!(message, "tokens[1].id: `k1` is used twice");
    }

    #[test]
    fn a_bearer_is_found_in_any_case() {
        assert_eq!(bearer("Bearer rr_a"), Some("rr_a"));
        assert_eq!(bearer("bearer  rr_a "), Some("rr_a"));
        for none in ["rr_a", "Basic YTpi", "", "Bearerrr_a"] {
            assert_eq!(bearer(none), None, "{none}");
        }
    }

    #[test]
    fn a_source_is_bound_by_its_whole_name() {
        for (source, belongs) in
            [("edge", true), ("edge/eu", true), ("edge2", false), ("edg", false), ("x/edge", false)]
        {
            assert_eq!(belongs_to(source, "edge"), belongs, "{source}");
        }
    }
}
