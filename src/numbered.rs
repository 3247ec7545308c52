//! Many texts, each once and with a number, in little more space than their bytes.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// Texts by number, and numbers by text. The numbers count from 0 in the order in which the texts came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbered {
    state: RandomState,
    texts: String,
    /// Where each text ends in `texts`.
    ends: Vec<u32>,
    by_text: HashTable<u32>,
}

impl Numbered {
    pub(crate) fn with_capacity(texts: usize) -> Self {
        Self {
            ends: Vec::with_capacity(texts),
            by_text: HashTable::with_capacity(texts),
            ..Self::default()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text with a number that was given.
    pub(crate) fn text(&self, number: usize) -> &str {
        text_at(&self.texts, &self.ends, number)
    }

    pub(crate) fn find(&self, text: &str) -> Option<usize> {
        let is_it = |number: &u32| self.text(*number as usize) == text;
        self.by_text.find(self.state.hash_one(text), is_it).map(|number| *number as usize)
    }

    /// Adds a text that is not there yet, and gives back its number. `None` beyond four thousand million bytes.
    pub(crate) fn add(&mut self, text: &str) -> Option<usize> {
        let number = u32::try_from(self.len()).ok()?;
        let end = u32::try_from(self.texts.len() + text.len()).ok()?;
        self.texts.push_str(text);
        self.ends.push(end);
        let Self { state, texts, ends, by_text } = self;
        let rehash = |number: &u32| state.hash_one(text_at(texts, ends, *number as usize));
        by_text.insert_unique(state.hash_one(text), number, rehash);
        Some(number as usize)
    }
}

fn text_at<'a>(texts: &'a str, ends: &[u32], number: usize) -> &'a str {
    let start = number.checked_sub(1).map_or(0, |before| ends[before]);
    &texts[start as usize..ends[number] as usize]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_is_found_by_its_number_and_the_number_by_its_text(texts in prop::collection::vec(".{0,9}", 0..60)) {
            let mut numbered = Numbered::with_capacity(3);
            let mut known: Vec<String> = Vec::new();
            for text in texts {
                let place = known.iter().position(|known| *known == text);
                prop_assert_eq!(numbered.find(&text), place);
                if place.is_none() {
                    prop_assert_eq!(numbered.add(&text), Some(known.len()));
                    known.push(text);
                }
            }
            prop_assert_eq!(numbered.len(), known.len());
            for (number, text) in known.iter().enumerate() {
                prop_assert_eq!(numbered.text(number), text);
            }
        }
    }
}
