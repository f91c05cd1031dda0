//! A record's headers: few, short, read by name.
//!
//! Kept as one block of bytes, as they stand on disk: a record of five headers costs no allocation to read and
//! one to make, where a list of texts would cost ten.
//!
//! ```text
//! (u16 length, name, u32 length, value)…      little-endian, names and values UTF-8
//! ```

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Names and values, in the order written.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Well-formed: checked wherever bytes become headers.
    block: Bytes,
}

impl Headers {
    /// The block, as it is stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.block
    }

    /// A stored block; `None` if it is not well-formed.
    pub fn from_bytes(block: Bytes) -> Option<Self> {
        let mut rest: &[u8] = &block;
        while !rest.is_empty() {
            take(&mut rest)?;
        }
        Some(Headers { block })
    }

    /// The value of the first header of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut rest: &[u8] = &self.block;
        // Names are compared as bytes: of a million records each header would be made a text to be passed over.
        while let Some((key, value)) = take_bytes(&mut rest) {
            if key == name.as_bytes() {
                return std::str::from_utf8(value).ok();
            }
        }
        None
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest: &[u8] = &self.block;
        // The block is well-formed, so this ends where the block does.
        std::iter::from_fn(move || take(&mut rest))
    }

    /// As from an iterator; the block is split off from `arena`.
    pub(crate) fn collect<K: AsRef<str>, V: AsRef<str>>(
        headers: impl IntoIterator<Item = (K, V)>,
        arena: &mut BytesMut,
    ) -> Self {
        for (name, value) in headers {
            let (name, value) = (name.as_ref(), value.as_ref());
            let (Ok(name_len), Ok(value_len)) = (u16::try_from(name.len()), u32::try_from(value.len()))
            else {
                continue;
            };
            arena.put_u16_le(name_len);
            arena.put_slice(name.as_bytes());
            arena.put_u32_le(value_len);
            arena.put_slice(value.as_bytes());
        }
        Headers { block: arena.split().freeze() }
    }
}

/// The next name and value of a block.
fn take<'a>(rest: &mut &'a [u8]) -> Option<(&'a str, &'a str)> {
    let (name, value) = take_bytes(rest)?;
    Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let name_len = usize::from(rest.try_get_u16_le().ok()?);
    let (name, behind) = rest.split_at_checked(name_len)?;
    *rest = behind;
    let value_len = rest.try_get_u32_le().ok()? as usize;
    let (value, behind) = rest.split_at_checked(value_len)?;
    *rest = behind;
    Some((name, value))
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Headers {
    /// A name of more than 64 KiB is no header and is left out.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(headers: I) -> Self {
        Headers::collect(headers, &mut BytesMut::with_capacity(128))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(headers in proptest::collection::vec(("\\PC{0,9}", "\\PC{0,30}"), 0..6)) {
            let written: Headers = headers.iter().map(|(name, value)| (name, value)).collect();
            let stored = Headers::from_bytes(written.block.clone()).unwrap();
            let read: Vec<(String, String)> =
                stored.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            prop_assert_eq!(&read, &headers);
            for (name, _) in &headers {
                let first = headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
                prop_assert_eq!(stored.get(name), first);
            }
        }

        #[test]
        fn any_bytes_are_headers_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(headers) = Headers::from_bytes(bytes.into()) {
                let _ = headers.iter().count();
            }
        }
    }
}
