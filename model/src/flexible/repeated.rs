//! Kernels with two numbers that depend on sizes, as members of a family with one, called several times.
//!
//! Families have one free number. A product of attention of a batch of sequences has two: the sequences, and their length. It is
//! the product of one sequence, once for each, if the sequences lie one after the other in every operand that has them.

use kiln_ir::{Operand, Problem, Role};

use super::number::Number;
use super::text::Text;

/// A problem as calls of members of a family.
pub(super) struct Repeated<'a> {
    /// The family's text, with a `?` for its number.
    pub(super) pattern: String,
    /// The number of the member.
    pub(super) free: &'a Number,
    /// The number of calls.
    pub(super) times: &'a Number,
    /// True if all calls read the same, for each operand in the problem's order.
    pub(super) is_shared: Vec<bool>,
}

/// The calls of a problem with one free number that a problem with two is; `None` if it is not.
pub(super) fn repeated<'a>(text: &'a Text, bases: &[i128]) -> Option<Repeated<'a>> {
    let numbers = text.numbers();
    let [a, b] = numbers[..] else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(times, free)| {
        let problem = |n: u64| -> Option<Problem> {
            let value = |number: &Number| if number == times { Some(n) } else { number.at(bases) };
            let text = text.with(|number| value(number).map(|n| n.to_string()))?;
            text.trim_matches('"').parse().ok()
        };
        let is_shared = slices([&problem(1)?, &problem(2)?, &problem(3)?])?;
        let pattern = text.with(|number| Some(if number == times { "1".into() } else { "?".into() }))?;
        Some(Repeated { pattern: pattern.trim_matches('"').into(), free, times, is_shared })
    })
}

/// Of a problem once, twice and three times: for each operand whether it is the same for all; `None` unless each of the others is a
/// part behind the other.
fn slices(problems: [&Problem; 3]) -> Option<Vec<bool>> {
    let [one, two, three] = problems;
    if problems.iter().any(|p| p.epilogue() != one.epilogue() || p.extents()[2] != one.extents()[2]) {
        return None;
    }
    let operands = one.operands().into_iter().zip(two.operands()).zip(three.operands());
    operands.map(|((a, b), c)| slice([&a, &b, &c])).collect()
}

fn slice(operands: [&Operand; 3]) -> Option<bool> {
    let [one, ..] = operands;
    if !operands.iter().all(|o| o.is_dense()) {
        return None;
    }
    if operands.iter().all(|o| o.shape == one.shape && o.strides() == one.strides()) {
        return (one.role != Role::Dst).then_some(true);
    }
    let shapes = operands.map(Operand::memory_shape);
    let is_outermost =
        shapes.iter().zip(1u64..).all(|(shape, n)| shape.first() == Some(&n) && shape[1..] == shapes[0][1..]);
    // The others are where they were.
    let is_same = |d: usize| one.shape[d] == 1 || operands.iter().all(|o| o.strides()[d] == one.strides()[d]);
    (is_outermost && (0..one.shape.len()).all(is_same)).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A problem of a batch of 5 or 4, and a length of 9 or 8.
    fn text(of: impl Fn(u64, u64) -> String) -> Text {
        let corners = [of(5, 9), of(4, 9), of(5, 8), of(4, 8)];
        Text::of(&corners.each_ref().map(String::as_str)).unwrap()
    }

    #[test]
    fn products_of_attention_are_one_for_each_sequence() {
        let scores = text(|b, n| format!("matmul f32 {b}x4x{n}x16:{b}x4x16x{n} stag=acbd wtag=adbc"));
        let repeated = repeated(&scores, &[0, 0]).unwrap();
        assert_eq!(repeated.pattern, "matmul f32 1x4x?x16:1x4x16x? stag=acbd wtag=adbc");
        assert_eq!((repeated.times.at(&[2, 2]), repeated.free.at(&[2, 2])), (Some(3), Some(7)));
        assert_eq!(repeated.is_shared, [false, false, false]);
        let shared = text(|b, n| format!("matmul f32 {b}x{n}x16:1x16x8"));
        assert_eq!(super::repeated(&shared, &[0, 0]).unwrap().is_shared, [false, true, false]);
    }

    #[test]
    fn what_is_not_apart_is_not_repeated() {
        for of in [
            |b: u64, n: u64| format!("matmul f32 {n}x{b}:{b}x8"),
            |b: u64, n: u64| format!("matmul f32 {n}x4x{b}x16:{n}x4x16x{b} stag=bacd"),
            |b: u64, n: u64| format!("conv f32 mb1ic3ih{b}iw{n}oc4kh3kw3ph1pw1"),
        ] {
            let text = text(of);
            if let Some(repeated) = repeated(&text, &[0, 0]) {
                // Rows of a product are one for each, too.
                assert_eq!(repeated.is_shared, [false, true, false], "{}", repeated.pattern);
            }
        }
        assert!(repeated(&text(|b, n| format!("matmul f32 8x{n}:{n}x{b}")), &[0, 0]).is_none());
        assert!(repeated(&text(|b, n| format!("conv f32 mb1ic3ih{b}iw{n}oc4kh3kw3ph1pw1")), &[0, 0]).is_none());
        assert!(repeated(&text(|b, _| format!("matmul f32 {b}x4:4x5")), &[0, 0]).is_none());
    }
}
