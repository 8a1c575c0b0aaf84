//! Math modes.

use std::fmt;
use std::str::FromStr;

/// Which arithmetic may stand in for the problem's own: a permission, as oneDNN's fpmath mode is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MathMode {
    /// f32 is multiplied and accumulated in f32; only the order of additions is free.
    #[default]
    Strict,
    /// f32 operands may be rounded to bf16, to nearest even, before they are multiplied. Sums are f32.
    Bf16,
    /// Whatever is fastest on the target.
    Any,
}

impl MathMode {
    /// Every mode with its word.
    pub const ALL: &'static [(&'static str, MathMode)] =
        &[("strict", MathMode::Strict), ("bf16", MathMode::Bf16), ("any", MathMode::Any)];

    /// Whether operands may be rounded to bf16.
    pub fn allows_bf16(self) -> bool {
        self != MathMode::Strict
    }
}

impl fmt::Display for MathMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MathMode::ALL.iter().find(|(_, m)| m == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for MathMode {
    type Err = String;

    /// In either case.
    fn from_str(s: &str) -> Result<Self, String> {
        let word = s.to_ascii_lowercase();
        let found = MathMode::ALL.iter().find(|(name, _)| *name == word).map(|(_, mode)| *mode);
        found.ok_or_else(|| format!("unknown math mode `{s}`: expected strict, bf16 or any"))
    }
}
