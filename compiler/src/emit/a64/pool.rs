//! Constants that no instruction can hold, as data behind the code.

use std::collections::BTreeMap;

use super::asm::Label;

/// Words and where they are, in bytes from the pool's address.
#[derive(Debug)]
pub struct Pool {
    /// The pool's address.
    pub label: Label,
    /// Times that each word is repeated.
    copies: usize,
    offsets: BTreeMap<u32, i64>,
    words: Vec<u32>,
}

impl Pool {
    /// An empty pool whose words are repeated `copies` times.
    pub fn new(label: Label, copies: usize) -> Pool {
        Pool { label, copies, offsets: BTreeMap::new(), words: vec![] }
    }

    /// The place of `word`, which is added if it is not there.
    pub fn offset(&mut self, word: u32) -> i64 {
        *self.offsets.entry(word).or_insert_with(|| {
            let at = 4 * self.words.len() as i64;
            self.words.resize(self.words.len() + self.copies, word);
            at
        })
    }

    /// The data.
    pub fn words(&self) -> &[u32] {
        &self.words
    }
}
