//! Arithmetic, comparisons and logic on several tensors.

use kiln_ir::func::{Binary, ElementType, Unary};

use super::Row;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, axis_of, one};
use crate::import::program::{Val, scalar};
use crate::tensor;

pub(super) const OPS: &[Row] = &[
    ("Add", |c| binary(c, Binary::Add {})),
    ("And", |c| binary(c, Binary::And {})),
    ("Cast", cast),
    ("CastLike", cast_like),
    ("Div", |c| binary(c, Binary::Div {})),
    ("Equal", |c| binary(c, Binary::Equal {})),
    ("Greater", |c| binary(c, Binary::Greater {})),
    ("GreaterOrEqual", |c| binary(c, Binary::GreaterOrEqual {})),
    ("IsInf", is_inf),
    ("IsNaN", is_nan),
    ("Less", |c| binary(c, Binary::Less {})),
    ("LessOrEqual", |c| binary(c, Binary::LessOrEqual {})),
    ("Max", |c| chain(c, Binary::Max {})),
    ("Mean", mean),
    ("Min", |c| chain(c, Binary::Min {})),
    ("Mod", modulo),
    ("Mul", |c| binary(c, Binary::Mul {})),
    ("Or", |c| binary(c, Binary::Or {})),
    ("PRelu", prelu),
    ("Pow", pow),
    ("Sub", |c| binary(c, Binary::Sub {})),
    ("Sum", |c| chain(c, Binary::Add {})),
    ("Where", where_),
    ("Xor", |c| binary(c, Binary::Xor {})),
];

/// Both operands. Before version 7, the second is put along axes of the first where attributes say so, else they stretch as in
/// NumPy.
fn operands(c: &mut Ctx<'_>) -> Result<(Val, Val), Fault> {
    let (a, b) = (c.input(0)?, c.input(1)?);
    if c.opset >= 7 {
        return Ok((a, b));
    }
    let axis = c.int_or_none("axis")?;
    if !c.flag("broadcast", false)? {
        if c.shape(&a) != c.shape(&b) {
            let (a, b) = (c.ty(&a), c.ty(&b));
            return Err(format!("{a} and {b}: without its attribute `broadcast`, both must have one shape").into());
        }
        return Ok((a, b));
    }
    let rank = c.rank(&a);
    let Some(axis) = axis.filter(|_| c.rank(&b) > 0) else { return Ok((a, b)) };
    let axis = axis_of(axis, rank)?;
    let mut shape = c.shape(&b);
    if axis + shape.len() > rank {
        return Err(format!("{} does not fit into {} from axis {axis} on", c.ty(&b), c.ty(&a)).into());
    }
    shape.resize(rank - axis, 1);
    let b = c.reshape(&b, shape)?;
    Ok((a, b))
}

fn binary(c: &mut Ctx<'_>, op: Binary) -> Outputs {
    let (a, b) = operands(c)?;
    one(c.push(op, &[&a, &b])?)
}

/// An operation on any number of tensors, from the first on.
fn chain(c: &mut Ctx<'_>, op: Binary) -> Outputs {
    let mut inputs = c.all_inputs()?.into_iter();
    let first = inputs.next().expect("at least one");
    one(inputs.try_fold(first, |all, next| c.push(op.clone(), &[&all, &next]))?)
}

fn mean(c: &mut Ctx<'_>) -> Outputs {
    let sum = chain(c, Binary::Add {})?.remove(0);
    let count = c.number_like(&sum, c.input_count() as f64);
    one(c.div(&sum, &count)?)
}

/// The result has the type of the base.
fn pow(c: &mut Ctx<'_>) -> Outputs {
    let (base, exponent) = operands(c)?;
    let (ty, other) = (c.element(&base), c.element(&exponent));
    let inner = if ty.is_float() || ty == other { ty } else { ElementType::F64 };
    let (base, exponent) = (c.cast(&base, inner)?, c.cast(&exponent, inner)?);
    let power = c.push(Binary::Pow {}, &[&base, &exponent])?;
    one(c.cast(&power, ty)?)
}

/// The remainder with the sign of the divisor, or of the dividend as in C.
fn modulo(c: &mut Ctx<'_>) -> Outputs {
    let (a, b) = operands(c)?;
    let rest = c.push(Binary::Rem {}, &[&a, &b])?;
    let is_c = c.flag("fmod", false)?;
    let is_signed = c.element(&a).range().is_none_or(|(low, _)| low < 0.0);
    if is_c || !is_signed {
        return one(rest);
    }
    let zero = c.number_like(&rest, 0.0);
    let [is_negative, divisor_is_negative, is_zero] = [
        c.push(Binary::Less {}, &[&rest, &zero])?,
        c.push(Binary::Less {}, &[&b, &zero])?,
        c.push(Binary::Equal {}, &[&rest, &zero])?,
    ];
    let differs = c.push(Binary::Xor {}, &[&is_negative, &divisor_is_negative])?;
    let stays = c.unary(Unary::Not {}, &differs)?;
    let stays = c.push(Binary::Or {}, &[&stays, &is_zero])?;
    let moved = c.add(&rest, &b)?;
    one(c.select(&stays, &rest, &moved)?)
}

/// The slope stretches to the first input; before version 7, one number a channel did without further axes.
fn prelu(c: &mut Ctx<'_>) -> Outputs {
    let (x, mut slope) = (c.input(0)?, c.input(1)?);
    let shape = c.shape(&x);
    if c.opset < 7 && c.rank(&slope) == 1 && c.ty(&slope).elements() > 1 && shape.len() > 2 {
        slope = c.along(&slope, 1, shape.len())?;
    }
    let y = c.push(Binary::PRelu {}, &[&x, &slope])?;
    if c.shape(&y) != shape {
        return Err(format!("its slope {} does not stretch to {}", c.ty(&slope), c.ty(&x)).into());
    }
    one(y)
}

fn where_(c: &mut Ctx<'_>) -> Outputs {
    let (condition, yes, no) = (c.input(0)?, c.input(1)?, c.input(2)?);
    one(c.select(&condition, &yes, &no)?)
}

fn is_inf(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let (negative, positive) = (c.flag("detect_negative", true)?, c.flag("detect_positive", true)?);
    let infinity = c.number_like(&x, if positive { f64::INFINITY } else { f64::NEG_INFINITY });
    let x = if negative && positive { c.unary(Unary::Abs {}, &x)? } else { x };
    if !negative && !positive {
        let none = scalar(ElementType::Bool, 0.0);
        return one(c.broadcast(&none, c.shape(&x))?);
    }
    one(c.push(Binary::Equal {}, &[&x, &infinity])?)
}

fn is_nan(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let same = c.push(Binary::Equal {}, &[&x, &x])?;
    one(c.unary(Unary::Not {}, &same)?)
}

/// A type by its number in `onnx.proto`.
pub(super) fn element(number: i64) -> Result<ElementType, Fault> {
    let number = i32::try_from(number).map_err(|_| format!("there is no element type {number}"))?;
    let ty = tensor::ElementType::from_number(number)?;
    ElementType::try_from(ty).map_err(|e| e.to_string().into())
}

/// Settings of conversions to types of 8 bits, which no tensor here has: they change nothing.
pub(super) fn narrow_settings(c: &Ctx<'_>) -> Result<(), Fault> {
    c.flag("saturate", true)?;
    match c.string("round_mode", "up")?.as_str() {
        "up" | "down" | "nearest" => Ok(()),
        other => Err(format!("attribute `round_mode` is `{other}`: expected `up`, `down` or `nearest`").into()),
    }
}

fn cast(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    narrow_settings(c)?;
    // The first versions name the type.
    let to = match c.int_or_none("to") {
        Ok(Some(number)) => element(number)?,
        Ok(None) => return Err("lacks its attribute `to`".into()),
        Err(_) => {
            let name = c.string("to", "")?;
            const NAMES: [(&str, ElementType); 13] = [
                ("FLOAT", ElementType::F32),
                ("DOUBLE", ElementType::F64),
                ("FLOAT16", ElementType::F16),
                ("BFLOAT16", ElementType::Bf16),
                ("INT8", ElementType::I8),
                ("INT16", ElementType::I16),
                ("INT32", ElementType::I32),
                ("INT64", ElementType::I64),
                ("UINT8", ElementType::U8),
                ("UINT16", ElementType::U16),
                ("UINT32", ElementType::U32),
                ("UINT64", ElementType::U64),
                ("BOOL", ElementType::Bool),
            ];
            let found = NAMES.iter().find(|(word, _)| name.eq_ignore_ascii_case(word));
            found.ok_or_else(|| format!("attribute `to` is `{name}`, which is no type of elements"))?.1
        }
    };
    one(c.cast(&x, to)?)
}

fn cast_like(c: &mut Ctx<'_>) -> Outputs {
    let (x, like) = (c.input(0)?, c.input(1)?);
    narrow_settings(c)?;
    let to = c.element(&like);
    one(c.cast(&x, to)?)
}
