//! Sizes of the dimensions that a model leaves open.
//!
//! The size of a dimension is, in this order, that of the whole shape that is bound for its input, what is bound for its name,
//! the size that another input with a whole shape has under that name, what its expression gives, and what is bound for its
//! [role](DimRole).

mod dimension;
mod expression;
pub(super) mod name;

use std::collections::{BTreeMap, BTreeSet};

use super::bind::Bindings;
use crate::graph::{Dim, Value};
pub use dimension::{Dimension, SizeOrigin};
use expression::Expression;
pub use name::DimRole;

/// Rounds in which sizes follow from others: a file may have expressions of expressions without an end.
const ROUNDS: usize = 16;

/// The names of dimensions that stand for one size wherever they are, with their sizes.
pub(super) type Names<'a> = BTreeMap<&'a str, (u64, SizeOrigin)>;

/// Names that `--dim` of a caller may say the size of: those of dimensions, and those in their expressions.
pub(super) fn names(inputs: &[Value]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for name in inputs.iter().flat_map(|input| input.shape.iter().flatten()).filter_map(named) {
        names.insert(name.to_owned());
        let expression = Expression::read(name);
        names.extend(expression.iter().flat_map(Expression::names).map(str::to_owned));
    }
    names
}

/// The name of a dimension that has one, also if that says nothing.
fn named(dim: &Dim) -> Option<&str> {
    match dim {
        Dim::Named(name) if !name.is_empty() => Some(name),
        _ => None,
    }
}

/// A dimension of an input, and the size it has by the whole shape of the input.
struct Place<'a> {
    input: &'a Value,
    axis: usize,
    dim: &'a Dim,
    whole: Option<u64>,
}

/// Sizes that are bound or learned, by name.
pub(super) fn known<'a>(bindings: &'a Bindings, inputs: &'a [Value]) -> Names<'a> {
    let mut names: Names<'a> = bindings.dims().map(|(name, size)| (name, (size, SizeOrigin::Name))).collect();
    for place in places(bindings, inputs) {
        if let (Some(name), Some(size)) = (named(place.dim).filter(|name| !name::is_placeholder(name)), place.whole) {
            names.entry(name).or_insert_with(|| (size, SizeOrigin::Input(place.input.name.clone())));
        }
    }
    names
}

fn places<'a>(bindings: &'a Bindings, inputs: &'a [Value]) -> Vec<Place<'a>> {
    let mut places = vec![];
    for input in inputs {
        let dims = input.shape.as_deref().unwrap_or_default();
        let whole = bindings.bound_shape(&input.name).filter(|shape| shape.len() == dims.len());
        let place = |(axis, dim)| Place { input, axis, dim, whole: whole.map(|shape| shape[axis]) };
        places.extend(dims.iter().enumerate().map(place));
    }
    places
}

/// The roles of names: words say them wherever they are, made-up names and letters by all their places. A place in a matrix of
/// tokens says more than a first axis, which any input has.
fn roles<'a>(places: &[Place<'a>], inputs: &[Value]) -> BTreeMap<&'a str, (DimRole, bool)> {
    let mut roles = BTreeMap::new();
    for Place { input, axis, dim, .. } in places {
        let Some(name) = named(dim).filter(|name| !name::is_placeholder(name)) else { continue };
        let words = name::role_of_words(name).map(|role| (role, false));
        let place = || match name::is_made_up(name, inputs) {
            true => name::role_of_place(input, *axis),
            false => name::role_of_letter(name, input, *axis),
        };
        let found = words.or_else(|| place().map(|role| (role, true)));
        if let Some(found) = found {
            let role = roles.entry(name).or_insert(found);
            *role = (*role).max(found);
        }
    }
    roles
}

/// All dimensions of the inputs, in order. An input whose shape the model does not say has none, and one for which a shape of
/// another rank is bound has the model's.
pub(super) fn dimensions(bindings: &Bindings, inputs: &[Value]) -> Vec<Dimension> {
    let places = places(bindings, inputs);
    let roles = roles(&places, inputs);
    let mut names = known(bindings, inputs);
    let expressions: Vec<(&Place<'_>, Expression)> =
        places.iter().filter_map(|place| Some((place, Expression::read(named(place.dim)?)?))).collect();
    solve(&expressions, &mut names);
    // Plain names first: expressions may be of them.
    for is_expression in [false, true] {
        for (name, (role, _)) in &roles {
            if let Some(size) = bindings.role(*role).filter(|_| Expression::read(name).is_some() == is_expression) {
                names.entry(name).or_insert((size, SizeOrigin::Role));
            }
        }
        solve(&expressions, &mut names);
    }
    let dimension = |place: &Place<'_>| {
        let (input, axis) = (place.input, place.axis);
        let name = named(place.dim).unwrap_or_default();
        let by_place = || name::role_of_place(input, axis).map(|role| (role, true));
        let role = if name::is_placeholder(name) { by_place() } else { roles.get(name).copied() };
        let open = || {
            let of_role = || bindings.role(role?.0).map(|size| (size, SizeOrigin::Role));
            names.get(name).cloned().or_else(|| of_role().filter(|_| name::is_placeholder(name)))
        };
        let size = match (place.dim, place.whole) {
            (Dim::Known(n), _) => Some((*n as u64, SizeOrigin::Model)),
            (_, Some(size)) => Some((size, SizeOrigin::Shape)),
            (Dim::Named(_), None) => open(),
        };
        Dimension {
            input: input.name.clone(),
            axis,
            name: name.into(),
            role: role.map(|(role, _)| role),
            is_role_of_place: role.is_some_and(|(_, is_of_place)| is_of_place),
            size,
        }
    };
    places.iter().map(dimension).collect()
}

/// Adds what follows from expressions: their own sizes, and those of a name in one whose size is known.
fn solve<'a>(expressions: &'a [(&Place<'a>, Expression)], names: &mut Names<'a>) {
    for _ in 0..ROUNDS {
        let before = names.len();
        for (place, expression) in expressions {
            let name = named(place.dim).unwrap_or_default();
            let size = |name: &str| names.get(name).map(|(size, _)| *size);
            let found = match place.whole.or_else(|| size(name)) {
                Some(n) => expression.solve(n, &size),
                None => expression.size(&size).map(|n| (name, n)),
            };
            if let Some((name, n)) = found {
                names.entry(name).or_insert((n, SizeOrigin::Expression));
            }
        }
        if names.len() == before {
            return;
        }
    }
}

impl Bindings {
    /// All dimensions of a model's inputs, in order, with what these bindings say of their sizes.
    pub fn dimensions(&self, graph: &crate::Graph) -> Vec<Dimension> {
        dimensions(self, &graph.inputs)
    }
}
