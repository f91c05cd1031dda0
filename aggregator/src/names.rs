//! Texts, numbered in the order in which they first came: a batch has few tenants, sources and shapes beside
//! its events, and a number is cheaper to hash, compare and sort than a text.

use foldhash::HashMap;

/// Numbered texts.
#[derive(Debug, Default)]
pub struct Names {
    numbers: HashMap<Box<[u8]>, u32>,
    texts: Vec<Box<[u8]>>,
    last: u32,
}

impl Names {
    /// The number of `text`, a new one if it was not there.
    pub fn number(&mut self, text: &[u8]) -> u32 {
        // Neighbours are often of one source and one shape.
        if self.texts.get(self.last as usize).is_some_and(|last| **last == *text) {
            return self.last;
        }
        self.last = match self.numbers.get(text) {
            Some(number) => *number,
            None => {
                // A batch is bounded far below 2^32 records.
                let number = self.texts.len() as u32;
                self.numbers.insert(text.into(), number);
                self.texts.push(text.into());
                number
            }
        };
        self.last
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.texts.clear();
        self.last = 0;
    }

    /// The text of that number; empty for a number that was never given.
    pub fn text(&self, number: u32) -> &[u8] {
        self.texts.get(number as usize).map_or(&[], |text| text)
    }

    /// The text of that number, where only UTF-8 was put in.
    pub fn str(&self, number: u32) -> &str {
        std::str::from_utf8(self.text(number)).unwrap_or_default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// All, in the order of their numbers.
    pub fn texts(&self) -> Vec<&[u8]> {
        self.texts.iter().map(AsRef::as_ref).collect()
    }

    /// For each number, its place in the order of the texts.
    pub fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.texts.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.text(*a).cmp(self.text(*b)));
        let mut ranks = vec![0; order.len()];
        for (rank, number) in order.into_iter().enumerate() {
            ranks[number as usize] = rank as u32;
        }
        ranks
    }
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
