//! The key by which kernels are looked up.

use std::hash::{Hash, Hasher};

use hashbrown::Equivalent;
use kiln_compiler::Options;
use kiln_ir::{MathMode, Problem};

/// The key under which a kernel is cached. The target is the runtime's, the same for all entries. Thread count, values and pointers
/// are not part of it.
///
/// This is where a runtime's default arithmetic is applied, before anything else sees the problem: the key holds the problem
/// that is compiled, and so do the schedule, the artifact's text, packs and the cache directory, none of which knows that
/// there is a default.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) problem: Problem,
    pub(crate) options: Options,
}

/// [`Key`] by reference, with what the problem names once the runtime's default is applied, so that a hit clones nothing.
pub(crate) struct KeyRef<'a> {
    problem: &'a Problem,
    fpmath: Option<MathMode>,
    options: &'a Options,
}

impl<'a> KeyRef<'a> {
    /// With `default` as the arithmetic of f32 problems that name none.
    #[inline]
    pub(crate) fn new(problem: &'a Problem, default: MathMode, options: &'a Options) -> Self {
        KeyRef { problem, fpmath: problem.fpmath_or(default), options }
    }

    pub(crate) fn to_key(&self) -> Key {
        Key { problem: self.problem.with_fpmath(self.fpmath), options: self.options.clone() }
    }
}

impl Hash for KeyRef<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // In the order of `Key`'s fields, as its derived hash.
        state.write_u64(self.problem.fingerprint(self.fpmath));
        self.options.hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    #[inline]
    fn equivalent(&self, key: &Key) -> bool {
        self.fpmath == key.problem.fpmath()
            && self.problem.eq_ignoring_fpmath(&key.problem)
            && *self.options == key.options
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
        let modes = MathMode::ALL.iter().map(|(_, mode)| *mode);
        let said: Vec<Option<MathMode>> = [None].into_iter().chain(modes.clone().map(Some)).collect();
        let unsaid: Problem = "ip f32 mb3ic4oc5 +bias".parse().unwrap();
        let mut keys = vec![];
        for (fpmath, default) in said.iter().flat_map(|fpmath| modes.clone().map(move |default| (*fpmath, default))) {
            let problem = unsaid.with_fpmath(fpmath);
            let by_ref = KeyRef::new(&problem, default, &options);
            let key = by_ref.to_key();
            assert_eq!(hasher.hash_one(&by_ref), hasher.hash_one(&key));
            assert!(by_ref.equivalent(&key));
            assert!(!KeyRef::new(&problem, default, &Options::default()).equivalent(&key));
            // The key is the problem that is compiled.
            let kept = fpmath.or(Some(default).filter(|mode| *mode != MathMode::Strict));
            assert_eq!(key.problem, unsaid.with_fpmath(kept));
            keys.push((kept, key));
        }
        for ((a, key), (b, other)) in keys.iter().flat_map(|a| keys.iter().map(move |b| (a, b))) {
            let by_ref = KeyRef { problem: &unsaid, fpmath: *a, options: &options };
            assert_eq!(by_ref.equivalent(other), a == b, "{} and {}", key.problem, other.problem);
        }
    }
}
