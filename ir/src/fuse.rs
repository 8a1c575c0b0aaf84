//! Fusion: a tensor function as a list of kernels.
//!
//! Each kernel is a matmul with the operations after it that kernels apply while the result is in registers: adds of
//! biases and relus, in any order. An operation joins the kernel of its operand if nothing else reads that operand, since
//! a fused operand is never stored. Operations that the result does not depend on are left out.

use crate::epilogue::{Epilogue, EpilogueError, Mask, PostOp};
use crate::func::{Binary, Def, ElementType, Func, Structured, TensorOp, TensorType, Unary, ValueId};
use crate::problem::{Problem, ProblemError};

/// One kernel of a function, and the values it is called with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fused {
    /// What it computes.
    pub problem: Problem,
    /// Left operand.
    pub lhs: ValueId,
    /// Right operand.
    pub rhs: ValueId,
    /// The biases, arguments of the function, in the order that the problem's post-ops read them.
    pub post: Vec<ValueId>,
    /// The result.
    pub dst: ValueId,
}

/// A function that is not made of kernels. Values are named as the function prints them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FuseError {
    /// No kernel applies an operation.
    #[error("no kernel applies `{statement}`: {cause}; {SUPPORTED}")]
    Unfusable {
        /// The value it defines.
        value: ValueId,
        /// The operation as text.
        statement: String,
        /// Why.
        cause: Unfusable,
    },
    /// A matmul that is no valid problem.
    #[error("`{statement}`: {cause}")]
    Problem {
        /// The value it defines.
        value: ValueId,
        /// The operation as text.
        statement: String,
        /// Why.
        cause: ProblemError,
    },
    /// The function returns several values.
    #[error("@{func} returns {results} values: a kernel has one result")]
    Results {
        /// The function's name.
        func: String,
        /// Values returned.
        results: usize,
    },
    /// The function is not a single kernel.
    #[error("@{func} is {} kernels, expected one{}", kernels.len(), list(kernels))]
    NotOne {
        /// The function's name.
        func: String,
        /// The result and the problem of each kernel.
        kernels: Vec<(String, Problem)>,
    },
}

const SUPPORTED: &str = "a kernel is a `matmul`, then any number of `add`s of a bias and of `relu`s";

fn list(kernels: &[(String, Problem)]) -> String {
    kernels
        .iter()
        .enumerate()
        .map(|(i, (value, problem))| format!("{} {value} = {problem}", if i == 0 { ":" } else { "," }))
        .collect()
}

/// Why an operation joins no kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfusable {
    /// An operand of a matmul is not one that kernels multiply.
    #[error("{value} is {ty}, and a kernel multiplies matrices of f32 or bf16, of rank 2 and without dimensions of 0")]
    NotAMatrix {
        /// The operand.
        value: String,
        /// Its type.
        ty: TensorType,
    },
    /// There is no kernel for it to follow.
    #[error("none of its operands is the result of a matmul")]
    NoKernel,
    /// Its operand must be stored, because it is read elsewhere too.
    #[error("{value} is read {reads} times, and a fused operand must be read once")]
    Shared {
        /// The operand.
        value: String,
        /// How often it is read.
        reads: usize,
    },
    /// What is added is not a bias.
    #[error("{value} is {ty}, and a bias of this matmul is an argument of {n} elements, [{n}] or [1x{n}]")]
    NotABias {
        /// The value added.
        value: String,
        /// Its type.
        ty: TensorType,
        /// Columns of the matmul.
        n: u64,
    },
    /// The bias is not there when the kernel starts.
    #[error("{value} is not an argument of the function, and a bias must be one")]
    ComputedBias {
        /// The value added.
        value: String,
    },
    /// The post-ops with it are no chain that a kernel applies.
    #[error(transparent)]
    Epilogue(#[from] EpilogueError),
}

/// The kernels of a function, each after those whose results it reads. Empty if the function returns an argument.
pub fn fuse(func: &Func) -> Result<Vec<Fused>, FuseError> {
    let mut fuser = Fuser { func, reads: live_reads(func), kernels: vec![] };
    for (id, value) in func.values() {
        if let Def::Result { op, operands } = &value.def
            && fuser.reads[id.index()] > 0
        {
            let joined = match op {
                TensorOp::Structured(Structured::Matmul {}) => fuser.start(id, operands[0], operands[1]),
                TensorOp::Binary(Binary::Add {}) => fuser.add(id, operands[0], operands[1]),
                TensorOp::Unary(Unary::Relu {}) => fuser.relu(id, operands[0]),
                _ => Err(Unfusable::NoKernel),
            };
            joined.map_err(|cause| FuseError::Unfusable { value: id, statement: func.statement(id), cause })?;
        }
    }
    fuser.kernels.into_iter().map(|kernel| kernel.finish(func)).collect()
}

/// The kernel that the whole function is.
pub fn fuse_single(func: &Func) -> Result<Fused, FuseError> {
    if func.results().len() > 1 {
        return Err(FuseError::Results { func: func.name().into(), results: func.results().len() });
    }
    let kernels = fuse(func)?;
    <[Fused; 1]>::try_from(kernels).map(|[kernel]| kernel).map_err(|kernels| FuseError::NotOne {
        func: func.name().into(),
        kernels: kernels.into_iter().map(|k| (func.value(k.dst).to_string(), k.problem)).collect(),
    })
}

/// How often each value is read by what the result depends on, and by the caller; 0 for a value it does not depend on.
fn live_reads(func: &Func) -> Vec<usize> {
    let mut reads = vec![0; func.values().len()];
    func.results().iter().for_each(|id| reads[id.index()] += 1);
    for (id, value) in func.values().rev() {
        if reads[id.index()] > 0 {
            value.operands().iter().for_each(|o| reads[o.index()] += 1);
        }
    }
    reads
}

/// A kernel that may still grow.
struct Kernel {
    matmul: ValueId,
    lhs: ValueId,
    rhs: ValueId,
    ops: Vec<PostOp>,
    post: Vec<ValueId>,
    dst: ValueId,
}

impl Kernel {
    /// Appends a post-op whose result is `dst`, with the value it reads.
    fn extend(&mut self, op: PostOp, read: Option<ValueId>, dst: ValueId) -> Result<(), EpilogueError> {
        Epilogue::new(self.ops.iter().copied().chain([op]))?;
        self.ops.push(op);
        self.post.extend(read);
        self.dst = dst;
        Ok(())
    }

    fn finish(self, func: &Func) -> Result<Fused, FuseError> {
        let (lhs, rhs) = (&func.value(self.lhs).ty, &func.value(self.rhs).ty);
        let element = lhs.element();
        let problem = Problem::matmul(lhs.shape()[0], lhs.shape()[1], rhs.shape()[1]);
        let problem = problem.dtypes(element.dtype().expect("checked when the kernel began"));
        let problem = problem.epilogue(self.ops).build().map_err(|cause| FuseError::Problem {
            value: self.matmul,
            statement: func.statement(self.matmul),
            cause,
        })?;
        Ok(Fused { problem, lhs: self.lhs, rhs: self.rhs, post: self.post, dst: self.dst })
    }
}

struct Fuser<'a> {
    func: &'a Func,
    /// See [`live_reads`].
    reads: Vec<usize>,
    kernels: Vec<Kernel>,
}

impl Fuser<'_> {
    fn start(&mut self, matmul: ValueId, lhs: ValueId, rhs: ValueId) -> Result<(), Unfusable> {
        for operand in [lhs, rhs] {
            let value = self.func.value(operand);
            let ty = &value.ty;
            if ty.rank() != 2 || ty.element().dtype().is_none() || ty.elements() == 0 {
                return Err(Unfusable::NotAMatrix { value: value.to_string(), ty: ty.clone() });
            }
        }
        self.kernels.push(Kernel { matmul, lhs, rhs, ops: vec![], post: vec![], dst: matmul });
        Ok(())
    }

    fn add(&mut self, id: ValueId, a: ValueId, b: ValueId) -> Result<(), Unfusable> {
        match (self.kernel_of(a), self.kernel_of(b)) {
            (Some(kernel), _) => self.bias(id, kernel, b),
            (None, Some(kernel)) => self.bias(id, kernel, a),
            (None, None) => Err(Unfusable::NoKernel),
        }
    }

    /// Adds `bias` to the result of a kernel.
    fn bias(&mut self, id: ValueId, kernel: usize, bias: ValueId) -> Result<(), Unfusable> {
        self.check_read_once(self.kernels[kernel].dst)?;
        let value = self.func.value(bias);
        let n = self.func.value(self.kernels[kernel].rhs).ty.shape()[1];
        if !matches!(*value.ty.shape(), [columns] | [1, columns] if columns == n) {
            return Err(Unfusable::NotABias { value: value.to_string(), ty: value.ty.clone(), n });
        }
        // A computed bias could come from a kernel after this one's matmul: the order of kernels would be lost.
        if value.def != Def::Argument {
            return Err(Unfusable::ComputedBias { value: value.to_string() });
        }
        // A bias is f32; what is added in the type of the result is an operand of `add`.
        let columns = || Mask::of([1]).map(PostOp::Add);
        let op = if value.ty.element() == ElementType::F32 { None } else { columns() }.unwrap_or(PostOp::Bias);
        Ok(self.kernels[kernel].extend(op, Some(bias), id)?)
    }

    fn relu(&mut self, id: ValueId, operand: ValueId) -> Result<(), Unfusable> {
        let kernel = self.kernel_of(operand).ok_or(Unfusable::NoKernel)?;
        self.check_read_once(operand)?;
        Ok(self.kernels[kernel].extend(PostOp::Relu, None, id)?)
    }

    /// The kernel whose result a value is.
    fn kernel_of(&self, value: ValueId) -> Option<usize> {
        self.kernels.iter().rposition(|k| k.dst == value)
    }

    fn check_read_once(&self, value: ValueId) -> Result<(), Unfusable> {
        match self.reads[value.index()] {
            1 => Ok(()),
            reads => Err(Unfusable::Shared { value: self.func.value(value).to_string(), reads }),
        }
    }
}
