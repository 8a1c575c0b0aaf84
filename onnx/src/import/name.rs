//! Names of a model as words of a function's text.

use std::collections::HashMap;

/// A word like the name: letters, digits, `_` and `.`, and no digit first.
pub(super) fn word(name: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let mut word: String = name.chars().map(|c| if is_kept(c) { c } else { '_' }).collect();
    if !word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        word.insert(0, '_');
    }
    word
}

/// Words that were given away.
#[derive(Default)]
pub(super) struct Names {
    /// Each with how many were asked for.
    taken: HashMap<String, usize>,
}

impl Names {
    /// A word like the name that no other value has.
    pub(super) fn unique(&mut self, name: &str) -> String {
        let word = word(name);
        let mut unique = word.clone();
        while self.taken.contains_key(&unique) {
            let count = self.taken.entry(word.clone()).or_insert(1);
            *count += 1;
            unique = format!("{word}.{count}");
        }
        self.taken.insert(unique.clone(), 1);
        unique
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_words() {
        let mut names = Names::default();
        let words = ["/layer/0.weight", "a b", "a:b", "a_b", "7", ""].map(|name| names.unique(name));
        assert_eq!(words, ["_layer_0.weight", "a_b", "a_b.2", "a_b.3", "_7", "_"]);
    }
}
