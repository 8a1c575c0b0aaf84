//! Making a problem step by step.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::{DTypes, Definition, LAID_OUT, MathMode, Op, Problem, ProblemError, Role};
use crate::dtype::DType;
use crate::epilogue::{Epilogue, PostOp};
use crate::layout::Tag;
use crate::strides::{Layout, Strides};

const POST_STRIDES: &str =
    "tensors of post-ops are dense, in the order of the result: expected strides of lhs, rhs or dst";

/// Makes a [`Problem`] step by step.
#[derive(Clone, Debug)]
pub struct Builder {
    op: Op,
    dtypes: DTypes,
    /// Tags as given.
    tags: Vec<(Role, String)>,
    strides: Vec<(Role, Vec<u64>)>,
    accumulate: bool,
    fpmath: Option<MathMode>,
    post: Vec<PostOp>,
}

impl Builder {
    /// Plain f32 without an epilogue.
    pub fn new(op: Op) -> Self {
        Self {
            op,
            dtypes: DTypes::all(DType::F32),
            tags: vec![],
            strides: vec![],
            accumulate: false,
            fpmath: None,
            post: vec![],
        }
    }

    /// Element types: one for all, or three.
    pub fn dtypes(mut self, dtypes: impl Into<DTypes>) -> Self {
        self.dtypes = dtypes.into();
        self
    }

    /// The order of dimensions in memory of lhs, rhs or dst, as a tag such as `acb`.
    pub fn tag(mut self, role: Role, tag: &str) -> Self {
        self.tags.push((role, tag.into()));
        self
    }

    /// Elements between neighbours along each dimension of lhs, rhs or dst, in place of a tag. Along a dimension of 1 any
    /// number does.
    pub fn strides(mut self, role: Role, strides: &[u64]) -> Self {
        self.strides.push((role, strides.into()));
        self
    }

    /// Add the result to what `dst` holds.
    pub fn accumulate(mut self) -> Self {
        self.accumulate = true;
        self
    }

    /// The arithmetic allowed, whatever the default of a runtime is. Strict is a choice too.
    pub fn math(mut self, math: MathMode) -> Self {
        self.fpmath = Some(math);
        self
    }

    /// Appends a per-column bias.
    pub fn bias(self) -> Self {
        self.epilogue([PostOp::Bias])
    }

    /// Appends `max(c, 0)`.
    pub fn relu(self) -> Self {
        self.epilogue([PostOp::Relu])
    }

    /// Appends post-ops in order.
    pub fn epilogue(mut self, ops: impl IntoIterator<Item = PostOp>) -> Self {
        self.post.extend(ops);
        self
    }

    /// Checks the whole and makes the problem.
    pub fn build(self) -> Result<Problem, ProblemError> {
        if !DTypes::ALL.contains(&self.dtypes) {
            return Err(ProblemError::MixedDTypes(self.dtypes.to_string()));
        }
        let mut layouts = LAID_OUT.map(|(role, ..)| Layout::dense(self.op.tag(role)));
        let place = |role: &Role| LAID_OUT.iter().position(|(r, ..)| r == role);
        for (role, word) in &self.tags {
            let at = place(role);
            let rank = self.op.shape(*role).len();
            let tag = at.and_then(|at| Tag::parse(word, rank).map(|tag| (at, tag)));
            let Some((at, tag)) = tag else {
                let name = at.map_or("tag", |at| LAID_OUT[at].1);
                let example = Tag::plain(rank);
                let why = format!("expected an order of {rank} dimensions, such as `{example}`");
                return Err(ProblemError::Tag { name, tag: word.clone(), why });
            };
            layouts[at] = Layout::dense(tag);
        }
        for (role, strides) in &self.strides {
            let shape = self.op.shape(*role);
            let (name, tag) = place(role).map_or(("operand", ""), |at| (LAID_OUT[at].2, LAID_OUT[at].1));
            let text = strides.iter().map(u64::to_string).collect::<Vec<_>>().join("x");
            let fail = |why: String| ProblemError::Strides { name, strides: text.clone(), why };
            let at = place(role).ok_or_else(|| fail(POST_STRIDES.into()))?;
            if self.tags.iter().any(|(tagged, _)| tagged == role) {
                return Err(fail(format!("`{tag}` says where its elements are already: expected one of the two")));
            }
            let strides =
                Strides::new(strides).ok_or_else(|| fail(format!("expected one for each of {}", shape.len())))?;
            // A dimension of 0 is refused below as what it is.
            if !shape.contains(&0) {
                layouts[at] = Layout::strided(&shape, strides, self.op.tag(*role)).map_err(fail)?;
            }
        }
        let Builder { op, dtypes, accumulate, fpmath, post, .. } = self;
        let epilogue = Epilogue::new(post)?;
        // The same for all builds of one version, unlike that of a table with keys of its own.
        let mut hasher = DefaultHasher::new();
        (op, dtypes, layouts, accumulate, &epilogue).hash(&mut hasher);
        let definition = Definition { hash: hasher.finish(), op, dtypes, layouts, accumulate, epilogue };
        Problem { shared: Arc::new(definition), fpmath }.validate()
    }
}
