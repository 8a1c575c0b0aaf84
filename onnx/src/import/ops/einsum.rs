//! Sums of products by Einstein's convention.

use std::collections::BTreeMap;

use kiln_ir::func::ReduceKind;

use super::Row;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, one};
use crate::import::program::Val;

pub(super) const OPS: &[Row] = &[("Einsum", einsum)];

/// An axis: a letter, or one that an ellipsis stands for, counted from the last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Rest(std::cmp::Reverse<usize>),
    Letter(char),
}

/// A tensor and what its axes are.
struct Term {
    value: Val,
    labels: Vec<Label>,
}

/// The labels of one side; an ellipsis stands for `rest` axes.
fn labels(text: &str, rest: usize) -> Result<Vec<Label>, Fault> {
    let mut labels = vec![];
    let mut left = text;
    while let Some(letter) = left.chars().next() {
        match left.strip_prefix("...") {
            Some(after) => {
                labels.extend((0..rest).rev().map(|i| Label::Rest(std::cmp::Reverse(i))));
                left = after;
            }
            None if letter.is_ascii_alphabetic() => {
                labels.push(Label::Letter(letter));
                left = &left[1..];
            }
            None => return Err(format!("`{letter}` in its equation is not a letter").into()),
        }
    }
    Ok(labels)
}

fn einsum(c: &mut Ctx<'_>) -> Outputs {
    let equation: String = c.string("equation", "")?.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let sides: Vec<&str> = left.split(',').collect();
    let inputs = c.all_inputs()?;
    if sides.len() != inputs.len() {
        return Err(format!("its equation `{equation}` is not for {} operand(s)", inputs.len()).into());
    }
    let (mut terms, mut sizes, mut most_rest) = (vec![], BTreeMap::new(), 0);
    for (side, value) in sides.iter().zip(inputs) {
        let shape = c.shape(&value);
        let letters = side.replacen("...", "", 1).len();
        let rest = if side.contains("...") { shape.len().saturating_sub(letters) } else { 0 };
        most_rest = most_rest.max(rest);
        let labels = labels(side, rest)?;
        if labels.len() != shape.len() {
            return Err(format!("`{side}` in its equation is not for {}", c.ty(&value)).into());
        }
        for (label, size) in labels.iter().zip(&shape) {
            let known = sizes.entry(*label).or_insert(*size);
            match (*known, *size) {
                (a, b) if a == b || b == 1 => {}
                (1, b) => *known = b,
                (a, b) => return Err(format!("an axis of its equation `{equation}` has {a} and {b} elements").into()),
            }
        }
        terms.push(Term { value, labels });
    }
    let output: Vec<Label> = match right {
        Some(right) => labels(right, most_rest)?,
        None => {
            let mut count: BTreeMap<Label, usize> = BTreeMap::new();
            terms.iter().flat_map(|t| &t.labels).for_each(|label| *count.entry(*label).or_default() += 1);
            let is_result = |label: &Label, n: usize| matches!(label, Label::Rest(_)) || n == 1;
            count.into_iter().filter(|(label, n)| is_result(label, *n)).map(|(label, _)| label).collect()
        }
    };
    let is_once = output.iter().all(|label| output.iter().filter(|l| *l == label).count() == 1);
    if !is_once || !output.iter().all(|label| sizes.contains_key(label)) {
        return Err(
            format!("the result of its equation `{equation}` has an axis that is not there, or one twice").into()
        );
    }
    let terms = terms.into_iter().map(|term| widened(c, term, &sizes)).collect::<Result<Vec<_>, _>>()?;
    // What neither the result nor a later operand has is summed as soon as it may be.
    let mut uses: BTreeMap<Label, usize> = BTreeMap::new();
    output.iter().chain(terms.iter().flat_map(|t| &t.labels)).for_each(|label| *uses.entry(*label).or_default() += 1);
    let mut terms = terms.into_iter();
    let mut all = terms.next().ok_or("has no inputs")?;
    done(&mut uses, &all);
    for next in terms {
        done(&mut uses, &next);
        let later: Vec<Label> = uses.iter().filter(|(_, n)| **n > 0).map(|(label, _)| *label).collect();
        all = contracted(c, all, next, &later, &sizes)?;
    }
    let all = summed(c, all, &output)?;
    let perm: Vec<usize> = output.iter().map(|label| place(&all.labels, label)).collect();
    one(c.transpose(&all.value, &perm)?)
}

/// Takes a term from those that use its labels.
fn done(uses: &mut BTreeMap<Label, usize>, term: &Term) {
    term.labels.iter().for_each(|label| *uses.get_mut(label).expect("all are counted") -= 1);
}

fn place(labels: &[Label], label: &Label) -> usize {
    labels.iter().position(|l| l == label).expect("a label of this term")
}

/// Each label once, and with its full size.
fn widened(c: &mut Ctx<'_>, mut term: Term, sizes: &BTreeMap<Label, u64>) -> Result<Term, Fault> {
    let wide: Vec<u64> = term.labels.iter().map(|label| sizes[label]).collect();
    term.value = c.broadcast(&term.value, wide)?;
    let twice = |labels: &[Label]| {
        let second = |first: usize| labels[first + 1..].iter().position(|l| *l == labels[first]);
        (0..labels.len()).find_map(|first| Some((first, first + 1 + second(first)?)))
    };
    while let Some((first, second)) = twice(&term.labels) {
        // Of two axes that go together, the diagonal: every n + 1st element of both as one axis.
        let rank = term.labels.len();
        let perm: Vec<usize> = (0..rank).filter(|a| *a != first && *a != second).chain([first, second]).collect();
        let label = term.labels[first];
        let n = sizes[&label];
        term.value = c.transpose(&term.value, &perm)?;
        term.labels = perm[..rank - 1].iter().map(|axis| term.labels[*axis]).collect();
        let mut shape = c.shape(&term.value);
        shape.truncate(rank - 2);
        shape.push(n * n);
        term.value = c.reshape(&term.value, shape)?;
        term.value = c.slice(&term.value, rank - 2, 0, n as i64 + 1, n)?;
    }
    Ok(term)
}

/// Summed over what is not asked for.
fn summed(c: &mut Ctx<'_>, term: Term, keep: &[Label]) -> Result<Term, Fault> {
    let axes: Vec<usize> = (0..term.labels.len()).filter(|a| !keep.contains(&term.labels[*a])).collect();
    if axes.is_empty() {
        return Ok(term);
    }
    let value = c.reduce(&term.value, ReduceKind::Sum, &axes, false)?;
    Ok(Term { value, labels: term.labels.into_iter().filter(|label| keep.contains(label)).collect() })
}

/// The axes in an order, those of each group as one.
fn grouped(c: &mut Ctx<'_>, term: &Term, groups: [&[Label]; 3], sizes: &BTreeMap<Label, u64>) -> Result<Val, Fault> {
    let perm: Vec<usize> = groups.iter().flat_map(|g| g.iter()).map(|label| place(&term.labels, label)).collect();
    let value = c.transpose(&term.value, &perm)?;
    let shape: Vec<u64> = groups.iter().map(|g| g.iter().map(|label| sizes[label]).product()).collect();
    c.reshape(&value, shape)
}

/// The product of two terms, summed over what later ones do not need.
fn contracted(c: &mut Ctx<'_>, a: Term, b: Term, later: &[Label], sizes: &BTreeMap<Label, u64>) -> Result<Term, Fault> {
    let keep = |other: &Term| later.iter().chain(&other.labels).copied().collect::<Vec<_>>();
    let (keep_a, keep_b) = (keep(&b), keep(&a));
    let (a, b) = (summed(c, a, &keep_a)?, summed(c, b, &keep_b)?);
    let both = |label: &&Label| b.labels.contains(label);
    let batch: Vec<Label> = a.labels.iter().filter(both).filter(|l| later.contains(l)).copied().collect();
    let inner: Vec<Label> = a.labels.iter().filter(both).filter(|l| !later.contains(l)).copied().collect();
    let rows: Vec<Label> = a.labels.iter().filter(|l| !b.labels.contains(l)).copied().collect();
    let columns: Vec<Label> = b.labels.iter().filter(|l| !a.labels.contains(l)).copied().collect();
    let left = grouped(c, &a, [&batch, &rows, &inner], sizes)?;
    let right = grouped(c, &b, [&batch, &inner, &columns], sizes)?;
    // Without a sum, columns of one by rows of one are but a product of each pair.
    let product = if inner.is_empty() { c.mul(&left, &right)? } else { c.matmul(&left, &right)? };
    let labels: Vec<Label> = batch.into_iter().chain(rows).chain(columns).collect();
    let value = c.reshape(&product, labels.iter().map(|label| sizes[label]).collect::<Vec<_>>())?;
    Ok(Term { value, labels })
}
