//! Texts of operations and problems with numbers that depend on the sizes of open dimensions.

use super::number::Number;

/// A text with such numbers.
#[derive(Clone, Debug)]
pub(super) struct Text(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Same(String),
    Number(Number),
}

/// Cuts a text into runs of digits and what is between them, the latter first.
fn cut(text: &str) -> Vec<&str> {
    let mut pieces = vec![];
    let mut rest = text;
    loop {
        let other = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (between, from) = rest.split_at(other);
        let digits = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
        let (number, after) = from.split_at(digits);
        pieces.push(between);
        if number.is_empty() {
            return pieces;
        }
        pieces.push(number);
        rest = after;
    }
}

/// A run of digits that is the usual text of a number, and not behind a point, say.
fn number(digits: &str) -> Option<u64> {
    let number: u64 = digits.parse().ok()?;
    (!digits.starts_with('0') || digits.len() == 1).then_some(number)
}

impl Text {
    /// Of the texts at all corners; `None` if they differ in more than numbers.
    pub(super) fn of(corners: &[&str]) -> Option<Self> {
        let corners: Vec<Vec<&str>> = corners.iter().map(|text| cut(text)).collect();
        let first = &corners[0];
        if corners.iter().any(|pieces| pieces.len() != first.len()) {
            return None;
        }
        let mut pieces: Vec<Piece> = vec![];
        for (at, piece) in first.iter().enumerate() {
            if corners.iter().all(|pieces| pieces[at] == *piece) {
                match pieces.last_mut() {
                    Some(Piece::Same(last)) => *last += piece,
                    _ => pieces.push(Piece::Same((*piece).into())),
                }
            } else {
                let numbers = corners.iter().map(|pieces| number(pieces[at])).collect::<Option<Vec<u64>>>()?;
                pieces.push(Piece::Number(Number::of(numbers)));
            }
        }
        Some(Text(pieces))
    }

    /// The text for offsets of sizes.
    pub(super) fn at(&self, offsets: &[i128]) -> Option<String> {
        self.with(|number| number.at(offsets).map(|n| n.to_string()))
    }

    /// The text with something in place of each number that depends on sizes.
    pub(super) fn with(&self, word: impl Fn(&Number) -> Option<String>) -> Option<String> {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Same(text) => Some(text.clone()),
            Piece::Number(number) => word(number),
        });
        pieces.collect()
    }

    /// The numbers that depend on sizes, each once.
    pub(super) fn numbers(&self) -> Vec<&Number> {
        let mut numbers = vec![];
        for piece in &self.0 {
            if let Piece::Number(number) = piece
                && !numbers.contains(&number)
            {
                numbers.push(number);
            }
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_depend_on_sizes() {
        let text =
            Text::of(&["matmul f32 1x2x10x8:1x2x8x10 +scale:0.5", "matmul f32 1x2x9x8:1x2x8x9 +scale:0.5"]).unwrap();
        assert_eq!(text.at(&[-118]).unwrap(), "matmul f32 1x2x128x8:1x2x8x128 +scale:0.5");
        assert_eq!(text.with(|_| Some("?".into())).unwrap(), "matmul f32 1x2x?x8:1x2x8x? +scale:0.5");
        assert_eq!(text.numbers().len(), 1);
        let two = Text::of(&["a 20 b 11", "a 18 b 10"]).unwrap();
        assert_eq!(two.at(&[7]).unwrap(), "a 6 b 4");
        assert_eq!(two.numbers().len(), 2);
        assert!(Text::of(&["a 1", "b 1"]).is_none());
        assert!(Text::of(&["a 1", "a 1 2"]).is_none());
        assert!(Text::of(&["x 0.05", "x 0.10"]).is_none());
        assert!(Text::of(&["x 1", "x 0"]).unwrap().at(&[2]).is_none());
        let flat = Text::of(&["x 6x5", "x 4x5", "x 3x5", "x 2x5"]).unwrap();
        assert_eq!(flat.at(&[-1, -1]).unwrap(), "x 12x5");
    }
}
