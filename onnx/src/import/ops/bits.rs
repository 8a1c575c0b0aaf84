//! Operations on the bits of integers, and bits as another type.

use kiln_ir::func::{Binary, Structured, Unary};

use super::Row;
use super::math::element;
use crate::import::node::{Ctx, Outputs, one};

pub(super) const OPS: &[Row] = &[
    ("BitCast", bit_cast),
    ("BitShift", bit_shift),
    ("BitwiseAnd", |c| pair(c, Binary::BitAnd {})),
    ("BitwiseNot", bitwise_not),
    ("BitwiseOr", |c| pair(c, Binary::BitOr {})),
    ("BitwiseXor", |c| pair(c, Binary::BitXor {})),
];

fn pair(c: &mut Ctx<'_>, op: Binary) -> Outputs {
    let (a, b) = (c.input(0)?, c.input(1)?);
    one(c.push(op, &[&a, &b])?)
}

fn bitwise_not(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    one(c.unary(Unary::BitNot {}, &x)?)
}

fn bit_shift(c: &mut Ctx<'_>) -> Outputs {
    match c.string("direction", "")?.as_str() {
        "LEFT" => pair(c, Binary::ShiftLeft {}),
        "RIGHT" => pair(c, Binary::ShiftRight {}),
        other => Err(format!("attribute `direction` is `{other}`: expected `LEFT` or `RIGHT`").into()),
    }
}

fn bit_cast(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let to = element(c.int_or_none("to")?.ok_or("lacks its attribute `to`")?)?;
    if c.element(&x) == to {
        return one(x);
    }
    one(c.push(Structured::BitCast { to }, &[&x])?)
}
