//! The order of events, and where a page ends in it. Pure.

use std::fmt;
use std::str::FromStr;

/// The place of an event among all that are searched, in the order of time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    /// Its time; of a reject its arrival. Microseconds since the epoch.
    pub(super) moment: i64,
    /// Which table it is of.
    pub(super) kind: u8,
    /// Its identity, hexadecimal.
    pub(super) identity: String,
    /// Its arrival, milliseconds.
    pub(super) arrived: i64,
    pub(super) partition: u16,
    /// The first position of its batch.
    pub(super) batch: u64,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key { moment, kind, identity, arrived, partition, batch } = self;
        write!(f, "{moment}.{kind}.{identity}.{arrived}.{partition}.{batch}")
    }
}

impl FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let [moment, kind, identity, arrived, partition, batch] =
            text.split('.').collect::<Vec<_>>().try_into().map_err(drop)?;
        let is_identity = identity.len() == 32
            && identity.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !is_identity {
            return Err(());
        }
        Ok(Key {
            moment: moment.parse().map_err(drop)?,
            kind: kind.parse().map_err(drop)?,
            identity: identity.to_owned(),
            arrived: arrived.parse().map_err(drop)?,
            partition: partition.parse().map_err(drop)?,
            batch: batch.parse().map_err(drop)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_written_and_nothing_else_is_one() {
        let key = Key {
            moment: -5,
            kind: 2,
            identity: "0123456789abcdef0123456789abcdef".to_owned(),
            arrived: 7,
            partition: 3,
            batch: u64::MAX,
        };
        assert_eq!(key.to_string().parse(), Ok(key));
        for text in ["", "1.2.3", "1.0.x.1.1.1", "1.0.0123456789ABCDEF0123456789ABCDEF.1.1.1"] {
            assert_eq!(text.parse::<Key>(), Err(()), "{text}");
        }
    }
}
