//! The contraction: what every operation is once its shape is concrete.
//!
//! `dst[b.., m, n] = post(old + sum over k of lhs[b.., m, k] * rhs[b.., k, n])`, each operand a view of an argument: a stride per
//! axis. [`Contraction::of`] brings a problem into this form and normalises it, so that schedules meet few cases:
//!
//! - The result is contiguous along N. A column-major result, or one with a single column, is the transposed product of the
//!   transposed operands; only the names of the sides change places. A single row whose elements are apart is a column too.
//! - Batch dimensions of 1 are gone, neighbours that are one dimension in memory are merged, and those along which the right
//!   operand is the same are rows of M where memory allows.

use crate::dtype::DType;
use crate::epilogue::PostOp;
use crate::nest::{Access, Affine, Buffer, BufferId, BufferKind, Dim, Extent, Loop, LoopNest, Stmt, Var};
use crate::op::Convolution;
use crate::problem::{MathMode, Op, Operand, Problem, Role};
use crate::window::{self, Factors, Window};

/// How an argument is seen by a contraction: elements between neighbours along its axes, 0 along those it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Index among the arguments.
    pub argument: usize,
    /// Element type.
    pub dtype: DType,
    /// Per batch axis.
    pub batch: Vec<u64>,
    /// Along the rows' axis: M of lhs, dst and operands of post-ops; K of rhs.
    pub row: u64,
    /// Along the columns' axis: K of lhs; N of the others.
    pub col: u64,
}

/// A contraction. See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contraction {
    /// Name, type and kind of each argument, in the problem's order.
    pub arguments: Vec<(String, DType, BufferKind)>,
    /// Extents of the batch axes, outermost first.
    pub batch: Vec<u64>,
    /// Rows.
    pub m: u64,
    /// Columns.
    pub n: u64,
    /// Length of the sums.
    pub k: u64,
    /// M by K.
    pub lhs: View,
    /// K by N.
    pub rhs: View,
    /// M by N; `col` is 1.
    pub dst: View,
    /// Post-ops with the tensors they read, M by N.
    pub post: Vec<(PostOp, Option<View>)>,
    /// Add to what the result holds.
    pub accumulate: bool,
    /// The arithmetic allowed.
    pub math: MathMode,
    /// The problem's right operand, the weights, is this contraction's left.
    pub swapped: bool,
    /// How rows and steps of K find the elements of lhs, if not by a stride each.
    pub window: Option<Window>,
}

impl Contraction {
    /// The contraction that a problem is.
    pub fn of(problem: &Problem) -> Self {
        if let Op::Convolution(conv) = problem.op() {
            let mut all = windowed(problem, &conv);
            all.normalise_window(false);
            return all;
        }
        let operands = problem.operands();
        let view = |argument: usize| view(problem, &operands[argument], argument);
        let dst = operands.len() - 1;
        let post = post_ops(problem, view);
        let [m, n, k] = problem.extents();
        let mut all = Self {
            arguments: arguments(problem),
            batch: problem.batch(),
            m,
            n,
            k,
            lhs: view(0),
            rhs: view(1),
            dst: view(dst),
            post,
            accumulate: problem.accumulates(),
            math: problem.math(),
            swapped: false,
            window: None,
        };
        all.normalise();
        all
    }

    /// The contractions that a problem can be computed as, the [first](Self::of) that of most shapes: a convolution of single taps
    /// whose result has pixels for neighbours is a product with pixels for columns, or one with pixels for rows whose result is
    /// then transposed.
    pub fn ways(problem: &Problem) -> Vec<Self> {
        let first = Self::of(problem);
        if let (Op::Convolution(conv), true) = (problem.op(), first.swapped) {
            let mut other = windowed(problem, &conv);
            other.normalise_window(true);
            return vec![first, other];
        }
        vec![first]
    }

    /// Multiply-adds: those of taps on the input, where there is a window.
    pub fn macs(&self) -> u64 {
        let per_column = match &self.window {
            Some(w) => w.taps_inside() * w.channels,
            None => self.m * self.k,
        };
        self.batch.iter().product::<u64>() * per_column * self.n
    }

    /// Bytes of all operands: what has to be moved at least once.
    pub fn operand_bytes(&self) -> u64 {
        let bytes = |v: &View, elements: u64| {
            let batch: u64 = self.batch.iter().zip(&v.batch).filter(|(_, s)| **s != 0).map(|(e, _)| *e).product();
            batch * elements * v.dtype.bytes() as u64
        };
        let lhs = match &self.window {
            Some(w) => {
                let columns = if w.depthwise { self.n } else { w.channels };
                w.axes.iter().map(|a| a.input).product::<u64>() * columns
            }
            None => self.m * self.k,
        };
        let post = self.post.iter().filter_map(|(_, v)| v.as_ref());
        let post = post.map(|v| {
            bytes(v, [(v.row, self.m), (v.col, self.n)].map(|(s, e)| if s == 0 { 1 } else { e }).iter().product())
        });
        bytes(&self.lhs, lhs)
            + bytes(&self.rhs, self.k * self.n)
            + bytes(&self.dst, self.m * self.n)
            + post.sum::<u64>()
    }

    /// Elements of rhs between taps; 0 without a window.
    pub fn rhs_tap(&self) -> u64 {
        self.window.as_ref().map_or(0, |w| w.rhs_tap)
    }

    /// Taps and the steps of K of each: those of panels that interleave so many steps, in which each tap's are whole groups.
    pub fn taps(&self, interleave: u64) -> (u64, u64) {
        let (taps, channels) = self.window.as_ref().map_or((1, self.k), |w| (w.taps(), w.channels));
        (taps, channels.next_multiple_of(interleave))
    }

    /// Every view of the result's axes, and those of the factors.
    fn views(&mut self) -> impl Iterator<Item = &mut View> {
        let post = self.post.iter_mut().filter_map(|(_, v)| v.as_mut());
        [&mut self.lhs, &mut self.rhs, &mut self.dst].into_iter().chain(post)
    }

    fn normalise(&mut self) {
        for axis in (0..self.batch.len()).rev().filter(|a| self.batch[*a] == 1).collect::<Vec<_>>() {
            self.remove_batch(axis);
        }
        self.merge_batch();
        if self.m == 1 && self.n > 1 && self.dst.col != 1 {
            // A row whose elements are apart is a column.
            self.swap();
        }
        self.fold_into_rows();
        let transposed = self.dst.col != 1 && self.dst.row == 1 && self.n > 1;
        if transposed || (self.n == 1 && self.m > 1 && self.dst.row == 1) {
            self.swap();
        }
        self.settle_single_column();
        self.fold_into_rows();
    }

    /// Where there is one column, how far another would be says nothing: the next element is as good as any.
    fn settle_single_column(&mut self) {
        if self.n == 1 {
            self.dst.col = 1;
            self.post.iter_mut().filter_map(|(_, v)| v.as_mut()).for_each(|v| v.col = v.col.min(1));
        }
    }

    /// Windows that are none become strides, unless they are to be kept, and images that continue each other become rows.
    fn normalise_window(&mut self, keep: bool) {
        for axis in (0..self.batch.len()).rev().filter(|a| self.batch[*a] == 1).collect::<Vec<_>>() {
            self.remove_batch(axis);
        }
        self.fold_images();
        let Some(window) = &mut self.window else { return };
        let last = window.axes.last().copied();
        window.axes.retain(|a| a.output > 1 || a.kernel > 1 || a.pad != 0);
        if window.axes.is_empty() {
            window.axes.extend(last);
        }
        if let (Some((row, taps)), false) = (window.whole_images(self.lhs.col), keep) {
            // Every tap is read once, in the order that both factors have it.
            (self.lhs.row, self.lhs.col, self.rhs.row) = (row, 1, 1);
            (self.k, self.window) = (window.channels * taps, None);
            return self.normalise();
        }
        if let (Some(row), false) = (window.row_stride(), keep) {
            self.lhs.row = row;
            self.window = None;
            return self.normalise();
        }
        if window.channels == 1 && !window.depthwise {
            // Taps of a row of the kernel are then steps of K like channels.
            self.lhs.col = window.axes.last().map_or(1, |a| a.dilation * a.lhs);
        }
        self.settle_single_column();
        self.merge_batch();
    }

    /// The images of the innermost batch axis are an axis of the pixels where they continue each other in the result.
    fn fold_images(&mut self) {
        let Some(axis) = self.batch.len().checked_sub(1) else { return };
        let (m, images) = (self.m, self.batch[axis]);
        let continues = |v: &View| (m == 1 && v.row == 0) || v.batch[axis] == m * v.row;
        let post = self.post.iter().filter_map(|(_, v)| v.as_ref()).all(continues);
        if self.rhs.batch[axis] != 0 || !continues(&self.dst) || !post {
            return;
        }
        let Some(window) = &mut self.window else { return };
        window.axes.insert(0, window::images(images, self.lhs.batch[axis]));
        if m == 1 {
            self.dst.row = self.dst.batch[axis];
            self.post.iter_mut().filter_map(|(_, v)| v.as_mut()).for_each(|v| v.row = v.batch[axis]);
        }
        self.m *= images;
        self.remove_batch(axis);
    }

    fn remove_batch(&mut self, axis: usize) {
        self.batch.remove(axis);
        for view in self.views() {
            view.batch.remove(axis);
        }
    }

    /// Neighbouring batch axes that are one in every view become one.
    fn merge_batch(&mut self) {
        for axis in (1..self.batch.len()).rev() {
            let inner = self.batch[axis];
            if self.views().all(|v| v.batch[axis - 1] == inner * v.batch[axis]) {
                self.batch[axis - 1] *= inner;
                self.views().for_each(|v| v.batch[axis - 1] = v.batch[axis]);
                self.remove_batch(axis);
            }
        }
    }

    /// The innermost batch axes along which rhs is the same are rows where they continue the rows in memory.
    fn fold_into_rows(&mut self) {
        while let Some(axis) = self.batch.len().checked_sub(1) {
            let m = self.m;
            let continues = |v: &View| m == 1 || v.batch[axis] == m * v.row;
            let post = self.post.iter().filter_map(|(_, v)| v.as_ref()).all(continues);
            if self.rhs.batch[axis] != 0 || !continues(&self.lhs) || !continues(&self.dst) || !post {
                return;
            }
            if m == 1 {
                self.lhs.row = self.lhs.batch[axis];
                self.dst.row = self.dst.batch[axis];
                self.post.iter_mut().filter_map(|(_, v)| v.as_mut()).for_each(|v| v.row = v.batch[axis]);
            }
            self.m *= self.batch[axis];
            self.remove_batch(axis);
        }
    }

    /// The same product transposed.
    fn swap(&mut self) {
        std::mem::swap(&mut self.m, &mut self.n);
        std::mem::swap(&mut self.lhs, &mut self.rhs);
        self.views().for_each(|v| std::mem::swap(&mut v.row, &mut v.col));
        self.swapped = !self.swapped;
    }
}

/// A convolution as a windowed contraction, before it is normalised: batch axes are groups and images.
fn windowed(problem: &Problem, conv: &Convolution) -> Contraction {
    let operands = problem.operands();
    let taps: u64 = conv.space().iter().map(|s| s.kernel).product();
    let pixels: u64 = conv.space().iter().map(|s| s.output).product();
    let (ic, oc) = (conv.ic / conv.g, conv.oc / conv.g);
    let source = operands[0].strides();
    let window = conv.window(&source[2..]);
    let depthwise = window.depthwise;
    let (batch, n) = if depthwise { (vec![conv.mb], conv.g) } else { (vec![conv.g, conv.mb], oc) };
    let view = |argument: usize, groups: u64, images: u64, row: u64, col: u64| View {
        argument,
        dtype: operands[argument].dtype,
        batch: if depthwise { vec![images] } else { vec![groups, images] },
        row,
        col,
    };
    // A tensor of the result's dimensions, or of some of them.
    let result = |argument: usize| {
        let operand: &Operand = &operands[argument];
        let strides = operand.strides();
        let dims = match operand.role {
            Role::Post(n) => problem.post_dims(n),
            _ => (0..operand.shape.len()).collect(),
        };
        let stride = |dim: usize| dims.iter().position(|d| *d == dim).map_or(0, |at| strides[at]);
        let pixel = dims.iter().zip(&operand.shape).zip(&strides).filter(|((d, e), _)| **d >= 2 && **e > 1);
        let row = pixel.map(|(_, s)| *s).min().unwrap_or(0);
        view(argument, oc * stride(1), stride(0), row, stride(1))
    };
    let dst = operands.len() - 1;
    let post = post_ops(problem, result);
    let rhs = if depthwise { view(1, 0, 0, 1, taps) } else { view(1, oc * ic * taps, 0, taps, ic * taps) };
    Contraction {
        arguments: arguments(problem),
        batch,
        m: pixels,
        n,
        k: taps * ic,
        lhs: view(0, ic * source[1], source[0], 0, source[1]),
        rhs,
        dst: result(dst),
        post,
        accumulate: problem.accumulates(),
        math: problem.math(),
        swapped: false,
        window: Some(window),
    }
}

/// The post-ops, each with the view of the tensor that it reads: the operands between the factors and the result, in order.
fn post_ops(problem: &Problem, view: impl Fn(usize) -> View) -> Vec<(PostOp, Option<View>)> {
    let mut tensors = 2..;
    let ops = problem.epilogue().ops().iter();
    ops.map(|op| (*op, if op.has_operand() { tensors.next().map(&view) } else { None })).collect()
}

/// Name, type and kind of each argument.
fn arguments(problem: &Problem) -> Vec<(String, DType, BufferKind)> {
    let kind = |role| match (role, problem.accumulates()) {
        (Role::Dst, true) => BufferKind::InOut,
        (Role::Dst, false) => BufferKind::Out,
        _ => BufferKind::In,
    };
    problem.operands().into_iter().map(|o| (o.name, o.dtype, kind(o.role))).collect()
}

/// An operand as its operation's axes see it.
fn view(problem: &Problem, operand: &Operand, argument: usize) -> View {
    let axes = problem.axes(operand.role);
    let strides = operand.strides();
    let along = |dims: &[usize]| {
        // The innermost of dimensions that are one axis; extents of 1 may be anywhere in memory.
        let inner = dims.iter().filter(|d| operand.shape[**d] > 1).map(|d| strides[*d]).min();
        inner.or_else(|| dims.iter().map(|d| strides[*d]).min()).unwrap_or(0)
    };
    View {
        argument,
        dtype: operand.dtype,
        batch: axes.batch.iter().map(|d| d.map_or(0, |d| strides[d])).collect(),
        row: along(&axes.row),
        col: along(&axes.col),
    }
}

/// The naive nest of a problem.
pub fn naive(problem: &Problem) -> LoopNest {
    build(&problem.to_string(), &Contraction::of(problem))
}

/// The naive nest: clear, contract, then each post-op over the whole result.
pub fn build(problem: &str, c: &Contraction) -> LoopNest {
    let mut nest = LoopNest { problem: problem.into(), buffers: vec![], vars: vec![], body: vec![] };
    let [m, n, k] = ["m", "n", "k"].map(|v| nest.var(v));
    let mut operands = Operands::new(c, &mut nest);
    let [rows, cols] = [(m, c.m), (n, c.n)].map(|(v, extent)| (Affine::from(v), extent));
    let matrix = |view: &View, [row, col]: [&(Affine, u64); 2]| {
        vec![(row.0.clone(), row.1, view.row), (col.0.clone(), col.1, view.col)]
    };
    let factors = match &c.window {
        Some(w) => w.factors(&mut nest, [m, n, k], c.n, [c.lhs.col, c.rhs.row, c.rhs.col]),
        None => {
            let sums = (Affine::from(k), c.k);
            let (lhs, rhs) = (matrix(&c.lhs, [&rows, &sums]), matrix(&c.rhs, [&sums, &cols]));
            Factors { lhs, rhs, around: vec![] }
        }
    };
    let dst = operands.access(&c.dst, matrix(&c.dst, [&rows, &cols]));
    let (lhs, rhs) = (operands.access(&c.lhs, factors.lhs), operands.access(&c.rhs, factors.rhs));
    let product = Stmt::MulAdd { dst: dst.clone(), lhs, rhs };
    let contract = factors.around.into_iter().rev().fold(product, Stmt::inside_of);
    let mut steps = vec![];
    if !c.accumulate {
        steps.push(Stmt::Zero { dst: dst.clone() });
    }
    steps.push(over(k, c.k, vec![contract]));
    for (op, operand) in &c.post {
        // Axes that the tensor lacks are no dimensions; a factor or the result always has its own two.
        let operand = operand.as_ref().map(|v| {
            let inner = matrix(v, [&rows, &cols]);
            operands.access(v, inner.into_iter().filter(|(.., stride)| *stride != 0))
        });
        steps.push(Stmt::Post { op: *op, dst: dst.clone(), operand });
    }
    nest.body = steps
        .into_iter()
        .map(|s| {
            let inner = over(m, c.m, vec![over(n, c.n, vec![s])]);
            operands.batch.iter().zip(&c.batch).rev().fold(inner, |body, (v, e)| over(*v, *e, vec![body]))
        })
        .collect();
    nest.buffers = operands.buffers();
    nest
}

/// `for var in 0..extent`.
fn over(var: Var, extent: u64, body: Vec<Stmt>) -> Stmt {
    Stmt::Loop(Loop { var, extent: Extent::Const(extent), step: 1, parallel: false, body })
}

/// The arguments of a naive nest, as buffers that have the dimensions they are accessed by.
struct Operands<'a> {
    c: &'a Contraction,
    /// The variables of the batch axes.
    batch: Vec<Var>,
    buffers: Vec<Option<Buffer>>,
}

impl<'a> Operands<'a> {
    fn new(c: &'a Contraction, nest: &mut LoopNest) -> Self {
        let batch = (0..c.batch.len()).map(|i| nest.var(&format!("b{i}"))).collect();
        Self { c, batch, buffers: vec![None; c.arguments.len()] }
    }

    /// The element of an argument by the batch axes that it has and then by `inner`: index, extent and stride of each dimension.
    fn access(&mut self, view: &View, inner: impl IntoIterator<Item = (Affine, u64, u64)>) -> Access {
        let outer = self.batch.iter().zip(&self.c.batch).zip(&view.batch).filter(|(_, s)| **s != 0);
        let outer = outer.map(|((v, e), s)| (Affine::from(*v), *e, *s));
        let dims: Vec<(Affine, u64, u64)> = outer.chain(inner).collect();
        let (name, dtype, kind) = self.c.arguments[view.argument].clone();
        let extents = dims.iter().map(|&(_, extent, stride)| Dim { extent, stride }).collect();
        self.buffers[view.argument] = Some(Buffer { name, dtype, kind, dims: extents, interleave: 1 });
        Access { buffer: BufferId(view.argument as u16), index: dims.into_iter().map(|d| d.0).collect() }
    }

    fn buffers(self) -> Vec<Buffer> {
        self.buffers.into_iter().map(|b| b.expect("every argument is accessed")).collect()
    }
}
