//! Problems at random with data that make every sum exact, and what they mean from first principles: nothing here uses
//! the axes, contractions or references of the crate.

#![allow(dead_code, reason = "each test has a part of it")]

use kiln_ir::op::convolution::Spatial;
use kiln_ir::problem::Builder;
use kiln_ir::{Op, Operand, PostOp, Problem, Role};
use proptest::prelude::*;
use proptest::sample::select;

/// Integers from -3 to 3 that repeat at no round period: a sum of 24 products stays below 256, exact even in bf16.
pub fn integers(len: u64, salt: u64) -> Vec<f32> {
    (0..len).map(|i| ((i.wrapping_mul(2_654_435_761) + salt * 40_503) >> 7) as f32 % 7.0 - 3.0).collect()
}

/// Integers for each operand, in order, also where it has gaps.
pub fn operands(p: &Problem) -> Vec<Vec<f32>> {
    p.operands().iter().zip(1..).map(|(o, salt)| integers(o.span(), salt)).collect()
}

/// Every index of a tensor, last dimension fastest.
pub fn indices(shape: &[u64]) -> Vec<Vec<u64>> {
    shape.iter().fold(vec![vec![]], |all, extent| {
        all.iter().flat_map(|index| (0..*extent).map(|i| [&index[..], &[i]].concat())).collect()
    })
}

/// Where an element is; dimensions of 1 stretch.
pub fn offset(o: &Operand, index: &[u64]) -> usize {
    let parts = index.iter().zip(&o.shape).zip(o.strides());
    parts.map(|((i, extent), stride)| if *extent == 1 { 0 } else { i * stride }).sum::<u64>() as usize
}

/// Pairs of elements of lhs and rhs that are multiplied for an element of the result.
fn terms(op: Op, [lhs, rhs]: [&Operand; 2], dst: &[u64]) -> Vec<(usize, usize)> {
    match op {
        Op::Matmul(shape) => {
            let (batch, [m, n]) = (&dst[..dst.len() - 2], [dst[dst.len() - 2], dst[dst.len() - 1]]);
            let at = |o, row, col| offset(o, &[batch, &[row, col]].concat());
            (0..shape.k).map(|k| (at(lhs, m, k), at(rhs, k, n))).collect()
        }
        Op::InnerProduct(_) => {
            let at = |o: &Operand, outer, inner: &[u64]| offset(o, &[&[outer], inner].concat());
            indices(&lhs.shape[1..]).iter().map(|i| (at(lhs, dst[0], i), at(rhs, dst[1], i))).collect()
        }
        Op::Convolution(shape) => {
            let (image, channel) = (dst[0], dst[1]);
            let (inputs, outputs) = (shape.ic / shape.g, shape.oc / shape.g);
            let group = channel / outputs;
            let kernel: Vec<u64> = shape.space().iter().map(|s| s.kernel).collect();
            let mut terms = vec![];
            for tap in indices(&kernel) {
                let place = |(i, s): (usize, &Spatial)| {
                    let at = (dst[2 + i] * s.stride + tap[i] * s.dilation) as i64 - s.pad;
                    (0..s.input as i64).contains(&at).then_some(at as u64)
                };
                let Some(input) = shape.space().iter().enumerate().map(place).collect::<Option<Vec<u64>>>() else {
                    continue;
                };
                for c in 0..inputs {
                    let left = [&[image, group * inputs + c], &input[..]].concat();
                    let right = match shape.g {
                        1 => [&[channel, c], &tap[..]].concat(),
                        _ => [&[group, channel % outputs, c], &tap[..]].concat(),
                    };
                    // Dimensions of 1 do not stretch here: an index beyond them is never formed.
                    let element = |o: &Operand, index: &[u64]| -> usize {
                        index.iter().zip(o.strides()).map(|(i, s)| i * s).sum::<u64>() as usize
                    };
                    terms.push((element(lhs, &left), element(rhs, &right)));
                }
            }
            terms
        }
    }
}

/// The dimensions of the result that the tensor of a post-op has.
fn dims(problem: Op, op: PostOp, rank: usize) -> Vec<usize> {
    match op {
        PostOp::Bias if matches!(problem, Op::Convolution(_)) => vec![1],
        PostOp::Bias => vec![rank - 1],
        PostOp::BiasRow => vec![rank - 2],
        PostOp::BiasMask(mask) | PostOp::Add(mask) | PostOp::Mul(mask) => mask.dims().collect(),
        _ => vec![],
    }
}

/// The result in the order of `dst` in memory, rounded to its type, between what its gaps hold; `values` are integers.
pub fn meaning(p: &Problem, values: &[Vec<f32>]) -> Vec<f32> {
    let all = p.operands();
    let dst = all.last().unwrap();
    let mut result = values.last().unwrap().clone();
    for index in indices(&dst.shape) {
        let at = offset(dst, &index);
        let old = if p.accumulates() { values.last().unwrap()[at] as i64 } else { 0 };
        let terms = terms(p.op(), [&all[0], &all[1]], &index);
        let sum = terms.iter().fold(old, |sum, (l, r)| sum + values[0][*l] as i64 * values[1][*r] as i64);
        let mut c = sum as f64;
        let mut tensors = (2..).zip(&all[2..]);
        for op in p.epilogue().ops() {
            let mut operand = || {
                let (argument, o) = tensors.next().unwrap();
                let own: Vec<u64> = dims(p.op(), *op, dst.shape.len()).iter().map(|d| index[*d]).collect();
                f64::from(values[argument][offset(o, &own)])
            };
            c = match op {
                PostOp::Bias | PostOp::BiasRow | PostOp::BiasMask(_) | PostOp::Add(_) => c + operand(),
                PostOp::Mul(_) => c * operand(),
                PostOp::Scale(a) => c * f64::from(a.get()),
                PostOp::Shift(b) => c + f64::from(b.get()),
                PostOp::Relu => c.max(0.0),
                PostOp::LeakyRelu(a) => {
                    if c > 0.0 {
                        c
                    } else {
                        c * f64::from(a.get())
                    }
                }
                PostOp::Clamp(low, high) => c.max(low.get().into()).min(high.get().into()),
                PostOp::Abs => c.abs(),
                other => panic!("{other} is not exact"),
            };
        }
        assert_eq!(f64::from(c as f32), c, "{p}: the data are too large to be exact");
        result[at] = dst.dtype.round(c as f32);
    }
    result
}

/// Those that read at most a bias.
const PLAIN: &[&str] =
    &["bias", "bias:row", "relu", "abs", "clamp:-4:5.5", "shift:-1.5", "scale:0.5", "scale:-2", "leaky_relu:0.25"];

/// Post-ops that are exact on small integers, for a result of `rank` dimensions.
fn post_op(rank: usize) -> impl Strategy<Value = String> {
    let mask = (1u8..1 << rank)
        .prop_map(|bits| (0..6).filter(|d| bits >> d & 1 == 1).map(|d| char::from(b'a' + d)).collect::<String>());
    prop_oneof![
        select(PLAIN).prop_map(str::to_owned),
        (select(&["bias", "add", "mul"][..]), mask).prop_map(|(op, mask)| format!("{op}:{mask}")),
    ]
}

/// A tag of `rank` dimensions, plain in one of two.
fn tag(rank: usize) -> impl Strategy<Value = String> {
    let letters: String = ('a'..='f').take(rank).collect();
    let any = Just(letters.chars().collect::<Vec<_>>()).prop_shuffle().prop_map(|tag| tag.into_iter().collect());
    prop_oneof![Just(letters), any]
}

fn shapes() -> impl Strategy<Value = (String, [usize; 3])> {
    let batch = prop::collection::vec((1u64..4, 0..4), 0..3);
    let matmul = (batch, 1u64..14, 1u64..14, 1u64..14).prop_map(|(batch, m, k, n)| {
        let side = |broadcast: i32, row: u64, col: u64| {
            let batch = batch.iter().map(|(extent, b)| format!("{}x", if *b == broadcast { 1 } else { *extent }));
            format!("{}{row}x{col}", batch.collect::<String>())
        };
        (format!("{}:{}", side(1, m, k), side(2, k, n)), [batch.len() + 2; 3])
    });
    let ip = (1u64..8, 1u64..7, 1u64..9, prop::collection::vec(1u64..3, 0..3)).prop_map(|(mb, ic, oc, space)| {
        let names = ["ih", "iw"][2 - space.len()..].iter().zip(&space);
        let space_text: String = names.map(|(name, extent)| format!("{name}{extent}")).collect();
        (format!("mb{mb}ic{ic}{space_text}oc{oc}"), [2 + space.len(), 2 + space.len(), 2])
    });
    prop_oneof![4 => matmul, 1 => ip]
}

/// Problems whose sums are exact for [`operands`]. An order of dimensions that no kernel takes is replaced by the plain one.
pub fn problems() -> impl Strategy<Value = Problem> {
    let dtypes = select(&["f32", "f32", "bf16", "bf16:bf16:f32", "f32:bf16:f32"][..]);
    (shapes(), dtypes, any::<bool>()).prop_flat_map(|((shape, ranks), dtypes, accumulate)| {
        let tags = (tag(ranks[0]), tag(ranks[1]), tag(ranks[2]));
        let post = prop::collection::vec(post_op(ranks[2]), 0..5);
        (tags, post).prop_map(move |((stag, wtag, dtag), post)| {
            let op = if shape.starts_with("mb") { "ip" } else { "matmul" };
            let beta = u8::from(accumulate);
            let post: String = post.iter().map(|op| format!(" +{op}")).collect();
            let text = |tags: &[String]| format!("{op} {dtypes} {shape} beta={beta} {}{post}", tags.join(" "));
            let all = [format!("stag={stag}"), format!("wtag={wtag}"), format!("dtag={dtag}")];
            let tries = [&all, &all[..2], &all[2..], &[]].map(text);
            let made = tries.iter().map(|t| t.parse::<Problem>()).reduce(|first, next| first.or(next));
            made.unwrap().unwrap_or_else(|e| panic!("{}: {e}", tries[3]))
        })
    })
}

/// Convolutions whose sums are exact for [`operands`].
pub fn convolutions() -> impl Strategy<Value = Problem> {
    let dtypes = select(&["f32", "f32", "bf16", "bf16:bf16:f32", "f32:bf16:f32"][..]);
    let axis = (1u64..9, 1u64..4, 1u64..4, 0u64..3, -1i64..5, 0u64..6);
    let channels = (1u64..4, 1u64..4, 1u64..4, 1u64..3);
    let post = select(
        &[
            "",
            " +bias",
            " +bias+relu",
            " +add:WHOLE",
            " +mul:b+add:PIXELS",
            " +add:a+bias:ab",
            " +shift:-1.5+add:aPIXELS",
        ][..],
    );
    let tags = (any::<bool>(), any::<bool>(), any::<bool>());
    let order = Just(('a'..='e').collect::<Vec<char>>()).prop_shuffle();
    (dtypes, channels, prop::collection::vec(axis, 1..4), (tags, order), post)
        .prop_map(|(dtypes, (g, ic, oc, mb), axes, ((first, last, beta), order), post)| {
            let mut space = String::new();
            for (letter, (i, k, s, d, p, o)) in ["d", "h", "w"][3 - axes.len()..].iter().zip(&axes) {
                space += &format!("i{letter}{i}k{letter}{k}s{letter}{s}d{letter}{d}p{letter}{p}");
                if *o > 0 {
                    space += &format!("o{letter}{o}");
                }
            }
            let whole = &"abcde"[..2 + axes.len()];
            let post = post.replace("WHOLE", whole).replace("PIXELS", &whole[2..]);
            let tag = |name: &str, given: bool| if given { format!(" {name}=abx") } else { String::new() };
            let beta = if beta { " beta=1" } else { "" };
            let shape = format!("g{g}mb{mb}ic{}oc{}{space}", g * ic, g * oc);
            // A source has any order of dimensions.
            let order: String = order.into_iter().filter(|d| whole.contains(*d)).collect();
            let source = if first && last { format!(" stag={order}") } else { tag("stag", first) };
            format!("conv {dtypes} {shape}{source}{}{beta}{post}", tag("dtag", last))
        })
        // A kernel may not fit into its input.
        .prop_filter_map("no output", |text| text.parse().ok())
}

/// How an operand is spread in memory: whether at all, the stride of its innermost dimension, what is left free behind each
/// dimension, and whether elements overlap.
type Spread = (bool, u64, [u64; 6], bool);

fn spread() -> impl Strategy<Value = [Spread; 3]> {
    let inner = prop_oneof![4 => Just(1u64), 1 => 2u64..4];
    let free = prop::array::uniform6(prop_oneof![1 => Just(0u64), 1 => 1u64..9]);
    prop::array::uniform3((any::<bool>(), inner, free, prop::bool::weighted(0.2)))
}

/// Strides of `o` in the order that its dimensions have in memory.
fn spread_strides(o: &Operand, (_, inner, free, overlap): &Spread) -> Vec<u64> {
    let mut strides = vec![0; o.shape.len()];
    let mut next = *inner;
    for (d, free) in o.layout.tag().order().collect::<Vec<_>>().into_iter().rev().zip(free) {
        strides[d] = next;
        next = if *overlap { 1 + free } else { next * o.shape[d] + free };
    }
    strides
}

/// Problems of another strategy, some with strides. Strides that no kernel takes are left out.
pub fn strided(problems: impl Strategy<Value = Problem>) -> impl Strategy<Value = Problem> {
    (problems, spread()).prop_map(|(p, spreads)| {
        let build = |which: &[Role]| {
            let mut builder = Builder::new(p.op()).dtypes(p.dtypes()).epilogue(p.epilogue().ops().to_vec());
            if p.accumulates() {
                builder = builder.accumulate();
            }
            for (role, spread) in [Role::Lhs, Role::Rhs, Role::Dst].into_iter().zip(&spreads) {
                let o = operand(&p, role);
                builder = match spread.0 && which.contains(&role) {
                    true => builder.strides(role, &spread_strides(&o, spread)),
                    false => builder.tag(role, &o.layout.tag().to_string()),
                };
            }
            builder.build()
        };
        let all = [Role::Lhs, Role::Rhs, Role::Dst];
        let tries = [&all[..], &all[..2], &all[..1], &all[2..], &[]].map(build);
        tries.into_iter().reduce(|first, next| first.or(next)).unwrap().unwrap_or_else(|e| panic!("{p}: {e}"))
    })
}

/// The operand of a role.
pub fn operand(p: &Problem, role: Role) -> Operand {
    p.operands().into_iter().find(|o| o.role == role).unwrap()
}
