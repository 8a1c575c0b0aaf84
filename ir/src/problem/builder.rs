//! Making a problem step by step.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::{DTypes, Definition, MathMode, Op, Problem, ProblemError, Role, TAGGED};
use crate::dtype::DType;
use crate::epilogue::{Epilogue, PostOp};
use crate::layout::Tag;

/// Makes a [`Problem`] step by step.
#[derive(Clone, Debug)]
pub struct Builder {
    op: Op,
    dtypes: DTypes,
    /// Name and tag as given.
    tags: Vec<(Role, String)>,
    accumulate: bool,
    math: MathMode,
    post: Vec<PostOp>,
}

impl Builder {
    /// Plain f32 without an epilogue.
    pub fn new(op: Op) -> Self {
        Self {
            op,
            dtypes: DTypes::all(DType::F32),
            tags: vec![],
            accumulate: false,
            math: MathMode::Strict,
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

    /// Add the result to what `dst` holds.
    pub fn accumulate(mut self) -> Self {
        self.accumulate = true;
        self
    }

    /// The arithmetic allowed.
    pub fn math(mut self, math: MathMode) -> Self {
        self.math = math;
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
        let mut tags = TAGGED.map(|(role, _)| self.op.tag(role));
        for (role, word) in &self.tags {
            let at = TAGGED.iter().position(|(r, _)| r == role);
            let rank = self.op.shape(*role).len();
            let tag = at.and_then(|at| Tag::parse(word, rank).map(|tag| (at, tag)));
            let Some((at, tag)) = tag else {
                let name = at.map_or("tag", |at| TAGGED[at].1);
                let example = Tag::plain(rank);
                let why = format!("expected an order of {rank} dimensions, such as `{example}`");
                return Err(ProblemError::Tag { name, tag: word.clone(), why });
            };
            tags[at] = tag;
        }
        let Builder { op, dtypes, accumulate, math, post, .. } = self;
        let epilogue = Epilogue::new(post)?;
        // The same for all builds of one version, unlike that of a table with keys of its own.
        let mut hasher = DefaultHasher::new();
        (op, dtypes, tags, accumulate, &epilogue).hash(&mut hasher);
        let definition = Definition { hash: hasher.finish(), op, dtypes, tags, accumulate, epilogue };
        Problem { shared: Arc::new(definition), math }.validate()
    }
}
