//! Every operation with its word and its settings: the one place where they are listed.

use std::sync::Arc;

use super::super::Func;
use super::super::element::{ElementType, Real};
use super::super::types::TensorType;
use super::attribute::{Attribute, Merge, Outside, PadMode, PoolKind, ReduceKind, Sampling};
use crate::problem::Problem;

/// A setting that an operation has not, lacks, or has with another value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// It is not there.
    #[error("`{op}` lacks its setting `{name}`: {what}")]
    Missing {
        /// The operation.
        op: &'static str,
        /// The setting.
        name: &'static str,
        /// What it must be.
        what: &'static str,
    },
    /// It is not one of the operation's.
    #[error("`{op}` has no setting `{name}`")]
    Unknown {
        /// The operation.
        op: &'static str,
        /// The setting.
        name: String,
    },
    /// It is there twice.
    #[error("`{op}`: the setting `{name}` is given twice: expected it once")]
    Repeated {
        /// The operation.
        op: &'static str,
        /// The setting.
        name: String,
    },
    /// Its value is not one.
    #[error("`{op}`: `{name}` of `{}`, {why}", crate::text::clipped(value))]
    Value {
        /// The operation.
        op: &'static str,
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Settings as they are written: name and value.
pub(in super::super) type Settings<'a> = Vec<(&'a str, &'a str)>;

fn take<T: Attribute>(op: &'static str, name: &'static str, settings: &mut Settings<'_>) -> Result<T, SettingError> {
    let what = T::WHAT;
    let at = settings.iter().position(|(n, _)| *n == name).ok_or(SettingError::Missing { op, name, what })?;
    let (_, value) = settings.remove(at);
    T::parse(value).map_err(|why| SettingError::Value { op, name, value: value.into(), why })
}

fn no_repeated(op: &'static str, settings: &Settings<'_>) -> Result<(), SettingError> {
    let again = |(at, (name, _)): &(usize, &(&str, &str))| settings[..*at].iter().any(|(before, _)| before == name);
    match settings.iter().enumerate().find(again) {
        None => Ok(()),
        Some((_, (name, _))) => Err(SettingError::Repeated { op, name: (*name).into() }),
    }
}

fn none_left(op: &'static str, settings: &Settings<'_>) -> Result<(), SettingError> {
    match settings.first() {
        None => Ok(()),
        Some((name, _)) => Err(SettingError::Unknown { op, name: (*name).into() }),
    }
}

/// An enumeration of operations, and the text of each.
macro_rules! operations {
    (
        $(#[$doc:meta])* $ty:ident;
        $($(#[$variant_doc:meta])* $variant:ident = $word:literal { $($(#[$field_doc:meta])* $field:ident: $field_ty:ty),* })*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $ty { $($(#[$variant_doc])* $variant { $($(#[$field_doc])* $field: $field_ty),* }),* }

        impl $ty {
            /// The words, in the order they are named to users.
            pub const NAMES: &'static [&'static str] = &[$($word),*];

            /// The word in text.
            pub fn name(&self) -> &'static str {
                match self { $($ty::$variant { .. } => $word),* }
            }

            /// Each setting with its text.
            pub fn settings(&self) -> Vec<(&'static str, String)> {
                match self { $($ty::$variant { $($field),* } => vec![$((stringify!($field), $field.print())),*]),* }
            }

            /// The operation of a word with its settings; `None` if it is another's.
            #[allow(unused_mut, reason = "no operation of some tables has settings")]
            pub(in super::super) fn read(name: &str, mut settings: Settings<'_>) -> Option<Result<Self, SettingError>> {
                match name {
                    $($word => Some((|| {
                        no_repeated($word, &settings)?;
                        let op = $ty::$variant { $($field: take::<$field_ty>($word, stringify!($field), &mut settings)?),* };
                        none_left($word, &settings)?;
                        Ok(op)
                    })()),)*
                    _ => None,
                }
            }
        }
    };
}

operations! {
    /// An operation on each element `x`.
    Unary;
    /// The magnitude.
    Abs = "abs" {}
    /// `-x`.
    Neg = "neg" {}
    /// The exponential.
    Exp = "exp" {}
    /// The natural logarithm.
    Log = "log" {}
    /// The square root.
    Sqrt = "sqrt" {}
    /// `1 / x`.
    Reciprocal = "reciprocal" {}
    /// The error function.
    Erf = "erf" {}
    /// The hyperbolic tangent.
    Tanh = "tanh" {}
    /// The sine.
    Sin = "sin" {}
    /// The cosine.
    Cos = "cos" {}
    /// The tangent.
    Tan = "tan" {}
    /// The inverse of the sine, between `-pi/2` and `pi/2`.
    Asin = "asin" {}
    /// The inverse of the cosine, between 0 and `pi`.
    Acos = "acos" {}
    /// The inverse of the tangent, between `-pi/2` and `pi/2`.
    Atan = "atan" {}
    /// The hyperbolic sine.
    Sinh = "sinh" {}
    /// The hyperbolic cosine.
    Cosh = "cosh" {}
    /// The inverse of the hyperbolic sine.
    Asinh = "asinh" {}
    /// The inverse of the hyperbolic cosine, not negative.
    Acosh = "acosh" {}
    /// The inverse of the hyperbolic tangent.
    Atanh = "atanh" {}
    /// `1 / (1 + exp(-x))`.
    Sigmoid = "sigmoid" {}
    /// `max(x, 0)`; NaN stays NaN.
    Relu = "relu" {}
    /// `x` where it is positive, else `alpha * x`.
    LeakyRelu = "leaky_relu" { /** Slope below zero. */ alpha: Real }
    /// `x` above `alpha`, else 0.
    ThresholdedRelu = "thresholded_relu" { /** The threshold. */ alpha: Real }
    /// `x` where it is positive, else `alpha * (exp(x) - 1)`.
    Elu = "elu" { /** Scale below zero. */ alpha: Real }
    /// `gamma * x` where it is positive, else `gamma * alpha * (exp(x) - 1)`.
    Selu = "selu" { /** Scale below zero. */ alpha: Real, /** Scale of all. */ gamma: Real }
    /// `max(0, x) + min(0, alpha * (exp(x / alpha) - 1))`.
    Celu = "celu" { /** Scale below zero. */ alpha: Real }
    /// `log(1 + exp(x))`.
    Softplus = "softplus" {}
    /// `x / (1 + |x|)`.
    Softsign = "softsign" {}
    /// `min(max(alpha * x + beta, 0), 1)`.
    HardSigmoid = "hard_sigmoid" { /** Slope. */ alpha: Real, /** Value at zero. */ beta: Real }
    /// `x * min(max(x / 6 + 1/2, 0), 1)`.
    HardSwish = "hard_swish" {}
    /// `x * (1 + erf(x / sqrt(2))) / 2`.
    GeluErf = "gelu_erf" {}
    /// `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2`.
    GeluTanh = "gelu_tanh" {}
    /// `x / (1 + exp(-x))`.
    Silu = "silu" {}
    /// `x * tanh(log(1 + exp(x)))`.
    Mish = "mish" {}
    /// The greatest integer not above `x`.
    Floor = "floor" {}
    /// The least integer not below `x`.
    Ceil = "ceil" {}
    /// The nearest integer, ties to even.
    Round = "round" {}
    /// -1, 0 or 1.
    Sign = "sign" {}
    /// Whether `x` is false; of booleans.
    Not = "not" {}
    /// Each bit inverted; of integers.
    BitNot = "bit_not" {}
    /// `min(max(x, low), high)`; NaN stays NaN. The upper limit wins over the lower.
    Clamp = "clamp" { /** Lower limit. */ low: Real, /** Upper limit. */ high: Real }
}

operations! {
    /// An operation on pairs of elements of two tensors of one type, which broadcast as in NumPy.
    Binary;
    /// `a + b`.
    Add = "add" {}
    /// `a - b`.
    Sub = "sub" {}
    /// `a * b`.
    Mul = "mul" {}
    /// `a / b`; of integers, towards zero, and 0 where `b` is 0.
    Div = "div" {}
    /// The remainder of [`Div`](Self::Div), with the sign of `a`.
    Rem = "rem" {}
    /// `a` to the power `b`.
    Pow = "pow" {}
    /// The greater; NaN if one is.
    Max = "max" {}
    /// The lesser; NaN if one is.
    Min = "min" {}
    /// `a` where it is positive, else `a * b`.
    PRelu = "prelu" {}
    /// Whether they are equal. The result of this and the following comparisons is boolean.
    Equal = "equal" {}
    /// Whether `a < b`.
    Less = "less" {}
    /// Whether `a <= b`.
    LessOrEqual = "less_or_equal" {}
    /// Whether `a > b`.
    Greater = "greater" {}
    /// Whether `a >= b`.
    GreaterOrEqual = "greater_or_equal" {}
    /// Whether both are true; of booleans, as the next two.
    And = "and" {}
    /// Whether one is true.
    Or = "or" {}
    /// Whether exactly one is true.
    Xor = "xor" {}
    /// The bits that both have; of integers, as the next four.
    BitAnd = "bit_and" {}
    /// The bits that one has.
    BitOr = "bit_or" {}
    /// The bits that exactly one has.
    BitXor = "bit_xor" {}
    /// `a` with its bits moved up by `b`; zeros enter. By the number of bits or more, or by less than 0, it is 0.
    ShiftLeft = "shift_left" {}
    /// `a` with its bits moved down by `b`; copies of the sign enter, which are zeros without one. By the number of bits or more,
    /// or by less than 0, all bits are such.
    ShiftRight = "shift_right" {}
}

operations! {
    /// An operation on whole tensors that is not element by element. `[n, c, ...]` are images, channels and pixels; with
    /// `channels_last` they lie as `[n, ..., c]`. Lists of settings are by axis, outermost first.
    Structured;
    /// Elements as another type, rounded as [`ElementType::round`] says.
    Cast = "cast" { /** The type. */ to: ElementType }
    /// The bits of each element as those of another type of the same size.
    BitCast = "bit_cast" { /** The type. */ to: ElementType }
    /// Of three operands, which broadcast: the second's element where the first, of booleans, is true, else the third's.
    Where = "where" {}
    /// `[..., m, k]` by `[..., k, n]` gives `[..., m, n]`: the sum over k of products. Outer dimensions broadcast.
    Matmul = "matmul" {}
    /// Cross-correlation of images with weights `[o, c / groups, taps...]`, with any number of axes of taps.
    Conv = "conv" {
        /** Pixels between windows. */ strides: Vec<u64>,
        /** Zeros before each axis, then after each. */ pads: Vec<u64>,
        /** Pixels between taps. */ dilations: Vec<u64>,
        /** Groups of channels that see nothing of each other. */ groups: u64,
        /** Whether pixels come before channels, in operand and result. */ channels_last: bool
    }
    /// The transpose of [`Conv`](Self::Conv) as a linear map; weights are `[c, o / groups, taps...]`.
    ConvTranspose = "conv_transpose" {
        /** Pixels between windows. */ strides: Vec<u64>,
        /** Pixels cut off before each axis, then after each. */ pads: Vec<u64>,
        /** Pixels between taps. */ dilations: Vec<u64>,
        /** Zeros added after each axis. */ output_pads: Vec<u64>,
        /** Groups of channels that see nothing of each other. */ groups: u64
    }
    /// What a transposed convolution makes of products: `[n, c * taps, pixels]`, each added to the element of `[n, c, out...]` that
    /// its tap sees from its pixel, `pixel * stride + tap * dilation - pad` along each axis, if it is there.
    ColumnsToImage = "columns_to_image" {
        /** Pixels that windows are at. */ pixels: Vec<u64>,
        /** Taps of a window. */ taps: Vec<u64>,
        /** Pixels of the result between windows. */ strides: Vec<u64>,
        /** Pixels cut off before each axis. */ pads: Vec<u64>,
        /** Pixels of the result between taps. */ dilations: Vec<u64>,
        /** Pixels of the result. */ out: Vec<u64>
    }
    /// A function of each window of each channel.
    Pool = "pool" {
        /** Which. */ kind: PoolKind,
        /** The p of `lp`; else 0. */ p: u64,
        /** Pixels of a window. */ kernel: Vec<u64>,
        /** Pixels between windows. */ strides: Vec<u64>,
        /** Padding before each axis, then after each. */ pads: Vec<u64>,
        /** Pixels between those of a window. */ dilations: Vec<u64>,
        /** Windows along each axis: they may reach beyond the padding, where there is nothing. */ out: Vec<u64>,
        /** Whether pixels come before channels. */ channels_last: bool
    }
    /// Where the greatest element of each window is in the operand, as an index into all of it, row-major or with the pixels in
    /// column-major order; the first of several, -1 of a window without elements; i64.
    MaxPoolIndices = "max_pool_indices" {
        /** As of [`Pool`](Self::Pool). */ kernel: Vec<u64>,
        /** As of [`Pool`](Self::Pool). */ strides: Vec<u64>,
        /** As of [`Pool`](Self::Pool). */ pads: Vec<u64>,
        /** As of [`Pool`](Self::Pool). */ dilations: Vec<u64>,
        /** As of [`Pool`](Self::Pool). */ out: Vec<u64>,
        /** Whether the index counts pixels in column-major order. */ column_major: bool
    }
    /// One element for all along some axes.
    Reduce = "reduce" {
        /** What is made of them. */ kind: ReduceKind,
        /** The axes, ascending. */ axes: Vec<u64>,
        /** Whether the axes stay, with 1 element. */ keep: bool
    }
    /// Where the greatest or least element along an axis is; i64.
    ArgReduce = "arg_reduce" {
        /** The greatest, not the least. */ max: bool,
        /** The axis. */ axis: u64,
        /** Whether the axis stays, with 1 element. */ keep: bool,
        /** The last of several, not the first. */ last: bool
    }
    /// Sums of all elements up to each along an axis.
    CumSum = "cumsum" {
        /** The axis. */ axis: u64,
        /** Whether the element itself is left out. */ exclusive: bool,
        /** Whether sums run from the end. */ reverse: bool
    }
    /// Products of all elements up to each along an axis.
    CumProd = "cumprod" {
        /** The axis. */ axis: u64,
        /** Whether the element itself is left out. */ exclusive: bool,
        /** Whether products run from the end. */ reverse: bool
    }
    /// Where the first few elements are along an axis when it is sorted; of equal ones those before others, NaN is greater than
    /// all; i64.
    TopK = "top_k" {
        /** How many. */ k: u64,
        /** The axis. */ axis: u64,
        /** The greatest first, not the least. */ largest: bool
    }
    /// The determinants of square matrices, the last two axes.
    Det = "det" {}
    /// `exp(x) / sum(exp(x))` along an axis.
    Softmax = "softmax" { /** The axis. */ axis: u64 }
    /// [`Softmax`](Self::Softmax), but 0 where all elements along the axis are minus infinity: what attention has where a query may
    /// see no key.
    MaskedSoftmax = "masked_softmax" { /** The axis. */ axis: u64 }
    /// The logarithm of [`Softmax`](Self::Softmax).
    LogSoftmax = "log_softmax" { /** The axis. */ axis: u64 }
    /// `(x - mean) / sqrt(variance + epsilon)` over the axes from one on; times the second operand, plus the third, if there are
    /// such, of the shape of these axes.
    LayerNorm = "layer_norm" { /** The first of the axes. */ axis: u64, /** Added to the variance. */ epsilon: Real }
    /// `x / sqrt(mean(x^2) + epsilon)` over the axes from one on; times the second operand, if there is one, of their shape.
    RmsNorm = "rms_norm" { /** The first of the axes. */ axis: u64, /** Added to the mean. */ epsilon: Real }
    /// `(x - mean) / sqrt(variance + epsilon) * scale + bias`: operands x, scale, bias, mean, variance, the latter four by channel.
    BatchNorm = "batch_norm" {
        /** Added to the variance. */ epsilon: Real,
        /** Whether channels are the last axis, not the second. */ channels_last: bool
    }
    /// `x / (bias + alpha / size * sum of squares)^beta`, the sum over `size` neighbouring channels, the second axis.
    Lrn = "lrn" {
        /** Channels that are summed. */ size: u64,
        /** Scale of the sum. */ alpha: Real,
        /** The power. */ beta: Real,
        /** Added to the sum. */ bias: Real
    }
    /// A step of a recurrent network whose cells have an input, an output and a forget gate. Operands are the gates and new values
    /// before their functions, `[batch, 4 * n]`, in the order input, output, forget, new; the cells before, `[batch, n]`; and
    /// factors of the cells in the gates, `[3, n]`, if there are such. The result is `[2, batch, n]`: the states and the cells.
    /// `cell' = sigmoid(forget) * cell + sigmoid(input) * tanh(new)`, `state = sigmoid(output) * tanh(cell')`; the output gate sees the
    /// cell after the step.
    LstmCell = "lstm_cell" {}
    /// A step of a recurrent network with an update and a reset gate. Operands are what these and the new value get from the input,
    /// and what they get from the states, both `[batch, 3 * n]`, and the states before, `[batch, n]`:
    /// `new = tanh(x + sigmoid(reset) * h)` of the two parts x and h of the new value,
    /// `state' = (1 - sigmoid(update)) * new + sigmoid(update) * state`.
    GruCell = "gru_cell" {}
    /// The elements in the same order with another shape.
    Reshape = "reshape" { /** The shape. */ shape: Vec<u64> }
    /// The axes in another order.
    Transpose = "transpose" { /** For each axis of the result, that of the operand. */ perm: Vec<u64> }
    /// Stretched to a shape as NumPy broadcasts.
    Broadcast = "broadcast" { /** The shape. */ shape: Vec<u64> }
    /// Some elements along each axis.
    Slice = "slice" {
        /** The first along each axis. */ starts: Vec<u64>,
        /** The distance to the next. */ steps: Vec<i64>,
        /** How many. */ counts: Vec<u64>
    }
    /// Any number of tensors one after another along an axis.
    Concat = "concat" { /** The axis. */ axis: u64 }
    /// Elements around the tensor.
    Pad = "pad" {
        /** What they are. */ mode: PadMode,
        /** Number before each axis. */ before: Vec<u64>,
        /** Number after each axis. */ after: Vec<u64>,
        /** The constant; else 0. */ value: Real
    }
    /// The slices of the first operand along an axis that the second, of integers, names; from the end if negative.
    Gather = "gather" { /** The axis. */ axis: u64 }
    /// Elements of the first operand, one for each index in the second, which is along one axis; along the others an element is
    /// where its index is. Indices are integers, from the end if negative.
    GatherElements = "gather_elements" { /** The axis. */ axis: u64 }
    /// Slices of the first operand that rows of the second, its last axis, name by their coordinates; integers, from the end if
    /// negative.
    GatherNd = "gather_nd" { /** First axes that both share. */ batch: u64 }
    /// The first operand with elements of the third merged in, one for each index in the second, which is along one axis; along
    /// the others an element goes where its index is. In the order of the indices; they are as of
    /// [`GatherElements`](Self::GatherElements).
    ScatterElements = "scatter_elements" { /** The axis. */ axis: u64, /** How elements merge. */ merge: Merge }
    /// The first operand with slices of the third merged in, where rows of the second, its last axis, say by their coordinates. In
    /// the order of the indices; they are as of [`GatherNd`](Self::GatherNd).
    ScatterNd = "scatter_nd" { /** How elements merge. */ merge: Merge }
    /// Images or volumes `[n, c, pixels...]` sampled at points `[n, points..., axes]`, the last axis of which has coordinates,
    /// innermost first, from -1 at one border to 1 at the other. The result is `[n, c, points...]`.
    GridSample = "grid_sample" {
        /** What is between pixels. */ sampling: Sampling,
        /** What is outside. */ outside: Outside,
        /** Whether a border is the centre of the outermost pixel, not its far edge. */ align_corners: bool
    }
    /// Regions of images `[n, c, h, w]`, each cut into `rows` by `columns` of which each is a mean or maximum of samples. Regions are
    /// `[x1, y1, x2, y2]`, rows of the second operand; the third says which image each is of, an index that must be of one. The
    /// result is `[regions, c, rows, columns]`.
    RoiAlign = "roi_align" {
        /** Parts of a region from top to bottom. */ rows: u64,
        /** Parts from left to right. */ columns: u64,
        /** Samples of a part along each axis, at most 256; 0 for one per pixel. */ samples: u64,
        /** What coordinates of regions are multiplied by. */ scale: Real,
        /** Whether the greatest sample is taken, not the mean. */ max: bool,
        /** Whether coordinates are of pixels' corners, so that centres are at halves. */ half_pixel: bool
    }
    /// What a compiled kernel computes: operands are those of the problem, in order and without `dst`, each of any shape with as
    /// many elements as the problem's operand has in memory; the result is `dst` in the order of memory.
    Kernel = "kernel" { /** The problem. */ problem: Box<Problem> }
}

operations! {
    /// An operation that runs functions, which see nothing but their arguments. It may have several results: it is itself the
    /// first, and [`Output`](Self::Output) gives the others.
    Control;
    /// What one of two functions gives for the operands from the second on: the first where the first operand, one boolean, is
    /// true. Both give values of the same types.
    If = "if" {
        /** The function if it is true. */ then: Arc<Func>,
        /** The function if it is false. */ otherwise: Arc<Func>
    }
    /// Runs a function for each number from 0 up to a count. Operands are the initial states, tensors that are read slice by
    /// slice along their first axis, and others that stay the same. The function takes the number, i64, the states, a slice of
    /// each of the former, which lack that axis, and the latter; it gives the states for the next number, and slices. Results are
    /// the states after the last number, and tensors of all slices.
    Scan = "scan" {
        /** How many numbers. */ trips: u64,
        /** How many states. */ states: u64,
        /** For each tensor that is read, then each that is made of slices: whether its last slice comes first. */
        backward: Vec<u64>,
        /** The function. */ body: Arc<Func>
    }
    /// Runs a function while it says so. Operands are a number that counts from 0 up to, i64, whether to begin at all, the initial
    /// states, and others that stay the same. The function takes the count, i64, the states and the latter; it gives whether to go
    /// on, and the states. Results are the states in the end. A loop that goes on for longer than
    /// [`MOST_TRIPS`](Self::MOST_TRIPS) has none.
    While = "while" {
        /** How many states. */ states: u64,
        /** The function. */ body: Arc<Func>
    }
    /// A result of another of these operations, its operand, which has several.
    Output = "output" {
        /** Which, from 1. */ index: u64,
        /** Its type. */ ty: TensorType
    }
}
