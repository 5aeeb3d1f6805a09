//! Words and their numbers.

use std::collections::HashMap;

/// Words, numbered in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary {
    words: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Vocabulary {
    /// A vocabulary of these words.
    pub fn new(words: &[&str]) -> Self {
        let mut vocabulary = Self::default();
        for word in words {
            vocabulary.add(word);
        }
        vocabulary
    }

    /// The number of a word, which is added if it is new.
    pub fn add(&mut self, word: &str) -> u32 {
        if let Some(number) = self.number(word) {
            return number;
        }
        let number = self.words.len() as u32;
        self.words.push(word.to_owned());
        self.numbers.insert(word.to_owned(), number);
        number
    }

    /// The number of a word, if it is there.
    pub fn number(&self, word: &str) -> Option<u32> {
        self.numbers.get(word).copied()
    }

    /// The words in the order of their numbers.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there is no word.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_numbered_as_they_come() {
        let mut vocabulary = Vocabulary::new(&["<pad>", "a", "<pad>"]);
        assert_eq!((vocabulary.add("b"), vocabulary.add("a")), (2, 1));
        assert_eq!((vocabulary.number("b"), vocabulary.number("c")), (Some(2), None));
        assert_eq!(vocabulary.words(), ["<pad>", "a", "b"]);
        assert_eq!(vocabulary.len(), 3);
    }
}
