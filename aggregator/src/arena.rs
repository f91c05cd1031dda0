//! Bytes of many records, end to end in blocks that never move: growing costs no copies, and who reads one record
//! meets memory that lies together.

/// A block; whoever comes when it is full begins another.
const BLOCK_BYTES: usize = 1 << 20;

/// The blocks.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    blocks: Vec<Vec<u8>>,
    /// The block that is being filled.
    current: usize,
}

/// Where a record begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    block: u32,
    at: u32,
}

impl Arena {
    /// Where the next record begins, and what its bytes are to be appended to: exactly `bytes`, which must be less than
    /// 4 GiB.
    pub(crate) fn begin(&mut self, bytes: usize) -> (Place, &mut Vec<u8>) {
        while self.blocks.get(self.current).is_some_and(|block| block.capacity() - block.len() < bytes) {
            self.current += 1;
        }
        if self.current == self.blocks.len() {
            self.blocks.push(Vec::with_capacity(bytes.max(BLOCK_BYTES)));
        }
        let block = &mut self.blocks[self.current];
        (Place { block: self.current as u32, at: block.len() as u32 }, block)
    }

    /// The bytes from a place on, of its record and of those behind it.
    pub(crate) fn from(&self, place: Place) -> &[u8] {
        &self.blocks[place.block as usize][place.at as usize..]
    }

    /// Forgets the records and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.blocks.iter_mut().for_each(Vec::clear);
        self.current = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stay_where_they_are() {
        let mut arena = Arena::default();
        let lengths = [3, BLOCK_BYTES - 3, 1, 2 * BLOCK_BYTES, 0, BLOCK_BYTES / 2, BLOCK_BYTES / 2];
        for _ in 0..2 {
            let mut places = Vec::new();
            for (number, length) in lengths.iter().enumerate() {
                let (place, block) = arena.begin(*length);
                block.resize(block.len() + length, number as u8);
                places.push(place);
            }
            for ((number, length), place) in lengths.iter().enumerate().zip(places) {
                assert!(arena.from(place)[..*length].iter().all(|byte| usize::from(*byte) == number));
            }
            let blocks = arena.blocks.len();
            assert_eq!(blocks, 4);
            arena.clear();
        }
    }
}
