//! Texts, numbered in the order in which they first came: a batch has few tenants, sources and shapes beside
//! its events, and a number is cheaper to hash, compare and sort than a text.

use std::hash::BuildHasher as _;

use hashbrown::HashTable;

/// Numbered texts. They lie end to end: a batch of many tenants costs no allocation for each of them.
#[derive(Debug, Default)]
pub struct Names {
    numbers: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    bytes: Vec<u8>,
    ends: Vec<u32>,
    last: u32,
}

impl Names {
    /// The number of `text`, a new one if it was not there.
    pub fn number(&mut self, text: &[u8]) -> u32 {
        // Neighbours are often of one source and one shape.
        if !self.is_empty() && self.text(self.last) == text {
            return self.last;
        }
        let hash = self.hasher.hash_one(text);
        self.last = match self.numbers.find(hash, |number| self.text(*number) == text) {
            Some(number) => *number,
            None => self.add(hash, text),
        };
        self.last
    }

    fn add(&mut self, hash: u64, text: &[u8]) -> u32 {
        // A batch is bounded far below 2^32 records, and 4 GiB.
        let number = self.ends.len() as u32;
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len() as u32);
        let (hasher, bytes, ends) = (&self.hasher, &self.bytes, &self.ends);
        self.numbers.insert_unique(hash, number, |number| hasher.hash_one(slice(bytes, ends, *number)));
        number
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.bytes.clear();
        self.ends.clear();
        self.last = 0;
    }

    /// The text of that number; empty for a number that was never given.
    pub fn text(&self, number: u32) -> &[u8] {
        slice(&self.bytes, &self.ends, number)
    }

    /// The text of that number, where only UTF-8 was put in.
    pub fn str(&self, number: u32) -> &str {
        std::str::from_utf8(self.text(number)).unwrap_or_default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All, in the order of their numbers.
    pub fn texts(&self) -> Vec<&[u8]> {
        (0..self.ends.len() as u32).map(|number| self.text(number)).collect()
    }

    /// For each number, its place in the order of the texts.
    pub fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.ends.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.text(*a).cmp(self.text(*b)));
        let mut ranks = vec![0; order.len()];
        for (rank, number) in order.into_iter().enumerate() {
            ranks[number as usize] = rank as u32;
        }
        ranks
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[u32], number: u32) -> &'a [u8] {
    let Some(end) = ends.get(number as usize) else {
        return &[];
    };
    let from = (number as usize).checked_sub(1).map_or(0, |before| ends[before] as usize);
    &bytes[from..*end as usize]
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn numbers_stay_and_ranks_follow_the_texts() {
        let mut names = Names::default();
        let numbers: Vec<u32> =
            ["b", "a", "b", "c", "a"].iter().map(|text| names.number(text.as_bytes())).collect();
        assert_eq!(numbers, [0, 1, 0, 2, 1]);
        assert_eq!(names.ranks(), [1, 0, 2]);
        assert_eq!(names.str(2), "c");
        assert_eq!(names.text(9), b"");
    }
}
