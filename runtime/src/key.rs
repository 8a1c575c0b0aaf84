//! What kernels are looked up by.

use std::hash::{Hash, Hasher};

use hashbrown::Equivalent;
use kiln_compiler::Options;
use kiln_ir::{MathMode, Problem};

/// What a kernel is cached under. The target is the runtime's, the same for all entries. Thread count, values and pointers
/// are not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) problem: Problem,
    pub(crate) options: Options,
}

/// [`Key`] by reference, with a math mode in place of the problem's, so that a hit clones nothing.
pub(crate) struct KeyRef<'a> {
    pub(crate) problem: &'a Problem,
    pub(crate) math: MathMode,
    pub(crate) options: &'a Options,
}

impl KeyRef<'_> {
    pub(crate) fn to_key(&self) -> Key {
        Key { problem: self.problem.with_math(self.math), options: self.options.clone() }
    }
}

impl Hash for KeyRef<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // In the order of `Key`'s fields, as its derived hash.
        state.write_u64(self.problem.fingerprint(self.math));
        self.options.hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    #[inline]
    fn equivalent(&self, key: &Key) -> bool {
        self.math == key.problem.math() && self.problem.is_but_for_math(&key.problem) && *self.options == key.options
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn both_forms_hash_alike() {
        let hasher = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default();
        let options = Options { constant_weights: true, ..Options::default() };
        let problem: Problem = "ip f32 mb3ic4oc5 +bias".parse().unwrap();
        for math in [MathMode::Strict, MathMode::Bf16, MathMode::Any] {
            let by_ref = KeyRef { problem: &problem, math, options: &options };
            let key = by_ref.to_key();
            assert_eq!(hasher.hash_one(&by_ref), hasher.hash_one(&key));
            assert!(by_ref.equivalent(&key));
            let other = KeyRef { problem: &problem, math, options: &Options::default() };
            assert!(!other.equivalent(&key));
        }
        let strict = KeyRef { problem: &problem, math: MathMode::Strict, options: &options }.to_key();
        assert!(!KeyRef { problem: &problem, math: MathMode::Bf16, options: &options }.equivalent(&strict));
    }
}
