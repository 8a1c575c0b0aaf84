//! What registers stand for, and what operations on them stand for.

use super::{Fault, P, TileSpec};

/// What a register stands for. Lanes beyond those mentioned mean nothing.
#[derive(Clone, Copy)]
pub(super) enum Value {
    /// Nothing was written.
    Unset,
    /// 0 in every lane.
    Zero,
    /// Lane `l` is the element `l` elements behind, for as many lanes as given.
    Vector(Loaded, u16),
    /// Lane `l` is the element `l % 4` elements behind, if that is less than the number given.
    Quad(Loaded, u16),
    /// Every lane is the element.
    Splat(Loaded),
    /// Part of a row of the result.
    Sum(Sum),
    /// Elements of `dst` of which some were loaded after they had been stored.
    New,
}

/// An element as it was when the micro-kernel was called.
#[derive(Clone, Copy)]
pub(super) struct Loaded {
    pub param: P,
    pub byte: i128,
}

/// Lane `l < lanes` is `dst[row, col + l]` as far as it was computed.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    pub row: u64,
    pub col: u64,
    pub lanes: u16,
    /// The products of this many steps are in it.
    pub k: u64,
    /// The old value is in it.
    old: bool,
    bias: bool,
    relu: bool,
}

impl Sum {
    /// That an operand, loaded from byte `found`, is the element at `expected`.
    pub fn expect(&self, expected: i128, found: i128) -> Result<(), Fault> {
        let Sum { row, col, k, .. } = *self;
        if expected == found { Ok(()) } else { Err(Fault::WrongElement { row, col, k, expected, found }) }
    }
}

/// One step of a sum: the scalar of `lhs`, and the vector of `rhs` and its meaningful lanes.
pub(super) struct Product {
    lhs_byte: i128,
    rhs_byte: i128,
    lanes: u16,
}

impl Value {
    /// The element that all lanes are.
    pub fn splat(self) -> Option<Loaded> {
        match self {
            Value::Splat(loaded) => Some(loaded),
            _ => None,
        }
    }

    /// The element that is in lane `lane` of each group of 4, in registers of `register_lanes` lanes.
    pub fn lane(self, lane: u8, register_lanes: u32) -> Option<Loaded> {
        match self {
            Value::Splat(loaded) => Some(loaded),
            Value::Quad(first, lanes) if u16::from(lane) < lanes => Some(first.behind(lane)),
            Value::Vector(first, lanes) if u16::from(lane) < lanes && register_lanes == 4 => Some(first.behind(lane)),
            _ => None,
        }
    }

    /// Consecutive elements of `param`: the byte of the first and the number of lanes.
    fn vector(self, param: P) -> Option<(i128, u16)> {
        let (first, lanes) = match self {
            Value::Vector(first, lanes) | Value::Quad(first, lanes) => (first, lanes),
            Value::Splat(only) => (only, 1),
            Value::Unset | Value::Zero | Value::Sum(_) | Value::New => return None,
        };
        (first.param == param).then_some((first.byte, lanes))
    }
}

impl Loaded {
    fn behind(self, elements: u8) -> Loaded {
        Loaded { byte: self.byte + 4 * i128::from(elements), ..self }
    }
}

fn bytes(n: u64, stride: u64) -> i128 {
    i128::from(n) * i128::from(stride)
}

impl TileSpec {
    pub(super) fn dst_byte(&self, row: u64, col: u64) -> i128 {
        bytes(row, self.dst.row_stride) + bytes(col, 4)
    }

    /// The row and column of the element of `dst` at `byte`, if it is in the tile.
    pub(super) fn dst_element(&self, byte: i128) -> Option<(u64, u64)> {
        let byte = u64::try_from(byte).ok()?;
        let row = if self.mr == 1 { 0 } else { byte / self.dst.row_stride };
        let in_row = byte.checked_sub(row.checked_mul(self.dst.row_stride)?)?;
        let col = in_row / 4;
        (in_row.is_multiple_of(4) && row < self.mr && col < self.nr).then_some((row, col))
    }

    /// The product of `vector` and `scalar`, if those are of `rhs` and `lhs`.
    pub(super) fn product(&self, vector: Value, scalar: Option<Loaded>) -> Option<Product> {
        let scalar = scalar.filter(|s| s.param == self.lhs.param)?;
        let (rhs_byte, lanes) = vector.vector(self.rhs.param)?;
        Some(Product { lhs_byte: scalar.byte, rhs_byte, lanes })
    }

    /// `accumulator + product`.
    pub(super) fn multiply_add(&self, accumulator: Value, product: Product) -> Result<Value, Fault> {
        let mut sum = match accumulator {
            Value::Sum(sum) => sum,
            Value::Zero => self.first(&product)?,
            loaded => self.old(loaded)?,
        };
        let Sum { row, col, k, .. } = sum;
        if k == self.k {
            return Err(Fault::TooManySteps { row, col });
        }
        sum.expect(bytes(row, self.lhs.row_stride) + bytes(k, self.lhs.k_stride), product.lhs_byte)?;
        sum.expect(bytes(k, self.rhs.k_stride) + bytes(col, 4), product.rhs_byte)?;
        sum.lanes = sum.lanes.min(product.lanes);
        sum.k += 1;
        Ok(Value::Sum(sum))
    }

    /// The sum of no products yet that `product` is the first of.
    fn first(&self, product: &Product) -> Result<Sum, Fault> {
        let index = |byte: i128, stride: u64, count: u64| {
            let start = || Fault::Start(byte);
            let byte = u64::try_from(byte).map_err(|_| start())?;
            // A stride of 0 is that of a single row.
            let index = byte.checked_div(stride).unwrap_or(0);
            if index < count && index * stride == byte { Ok(index) } else { Err(start()) }
        };
        let row = index(product.lhs_byte, self.lhs.row_stride, self.mr)?;
        let col = index(product.rhs_byte, 4, self.nr)?;
        Ok(Sum { row, col, lanes: product.lanes, k: 0, old: false, bias: false, relu: false })
    }

    /// The sum of no products yet that starts from `loaded`, if that is from `dst` and the tile accumulates.
    fn old(&self, loaded: Value) -> Result<Sum, Fault> {
        let (byte, lanes) = loaded.vector(self.dst.param).filter(|_| self.accumulate).ok_or(Fault::NotASum)?;
        let (row, col) = self.dst_element(byte).ok_or(Fault::Start(byte))?;
        Ok(Sum { row, col, lanes, k: 0, old: true, bias: false, relu: false })
    }

    /// `a + b`: the old value or the bias is added to a sum of all products.
    pub(super) fn add(&self, a: Value, b: Value) -> Result<Value, Fault> {
        let ((Value::Sum(mut sum), addend) | (addend, Value::Sum(mut sum))) = (a, b) else {
            return Err(Fault::NotASum);
        };
        let no_epilogue = sum.k == self.k && !sum.bias && !sum.relu;
        let bias = self.bias.and_then(|bias| addend.vector(bias));
        let (expected, (found, lanes)) = match addend.vector(self.dst.param) {
            Some(old) if no_epilogue && self.accumulate && !sum.old => {
                sum.old = true;
                (self.dst_byte(sum.row, sum.col), old)
            }
            None if no_epilogue && self.accumulate == sum.old => {
                sum.bias = true;
                (bytes(sum.col, 4), bias.ok_or(Fault::NotThisEpilogue)?)
            }
            _ => return Err(Fault::NotThisEpilogue),
        };
        sum.expect(expected, found)?;
        sum.lanes = sum.lanes.min(lanes);
        Ok(Value::Sum(sum))
    }

    /// `max(a, b)`: relu is applied to what is otherwise complete.
    pub(super) fn max(&self, a: Value, b: Value) -> Result<Value, Fault> {
        let ((Value::Sum(sum), Value::Zero) | (Value::Zero, Value::Sum(sum))) = (a, b) else {
            return Err(Fault::NotThisEpilogue);
        };
        let after = Sum { relu: true, ..sum };
        if sum.relu || !self.is_complete(&after) {
            return Err(Fault::NotThisEpilogue);
        }
        Ok(Value::Sum(after))
    }

    /// Whether nothing is left to add or apply.
    pub(super) fn is_complete(&self, sum: &Sum) -> bool {
        sum.k == self.k && sum.old == self.accumulate && sum.bias == self.bias.is_some() && sum.relu == self.relu
    }
}
