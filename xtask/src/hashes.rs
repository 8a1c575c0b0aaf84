//! `cargo xtask hashes`: what the compiler makes of a fixed list of problems, one hash each.

use std::io::{self, Write};

use kiln_compiler::target::Target;
use kiln_compiler::{Options, compile};
use kiln_ir::Problem;

use crate::process::Result;

/// One per way of vectorizing.
const TARGETS: &[&str] = &["neoverse-n1", "neoverse-v1", "neoverse-v2", "sve512", "x86-64-v3", "x86-64-v4"];

const EPILOGUES: &[&str] = &["", " +bias", " +bias+relu"];

/// `MxK:KxN`: degenerate sizes, each side of multiples of register tiles and vectors, and layers of models.
const SHAPES: &[&str] = &[
    "1x1:1x1",
    "1x1:1x64",
    "64x1:1x1",
    "1x64:64x1",
    "1x2:2x3",
    "3x5:5x7",
    "4x4:4x4",
    "5x16:16x9",
    "6x16:16x16",
    "7x17:17x15",
    "7x17:17x17",
    "8x8:8x12",
    "8x16:16x2",
    "8x31:31x24",
    "9x32:32x13",
    "9x33:33x25",
    "13x1:1x13",
    "16x16:16x16",
    "17x64:64x31",
    "32x32:32x32",
    "33x100:100x33",
    "64x64:64x64",
    "65x127:127x63",
    "96x256:256x64",
    "100x1000:1000x10",
    "128x128:128x128",
    "1x768:768x3072",
    "128x768:768x768",
    "128x768:768x3072",
    "128x3072:3072x768",
    "384x64:64x384",
    "512x512:512x512",
    "3136x64:64x256",
    "49x2048:2048x512",
];

/// Prints `HASH<TAB>PROBLEM @TARGET`, one line each.
pub fn run() -> Result {
    let lines: String = all()?.into_iter().map(|(hash, name)| format!("{hash}\t{name}\n")).collect();
    Ok(io::stdout().write_all(lines.as_bytes())?)
}

/// The hash and the name of every problem on every target; all of them must compile.
pub fn all() -> Result<Vec<(String, String)>> {
    let mut hashes = vec![];
    for target in TARGETS {
        let target: Target = target.parse()?;
        for shape in SHAPES {
            for epilogue in EPILOGUES {
                let problem: Problem = format!("matmul f32 {shape}{epilogue}").parse()?;
                let name = format!("{problem} @{target}");
                let artifact = compile(&problem, &target, &Options::default()).map_err(|e| format!("{name}: {e}"))?;
                hashes.push((format!("{:016x}", fnv1a(artifact.image())), name));
            }
        }
    }
    Ok(hashes)
}

/// FNV-1a, 64 bits: the same on every host and in every release, which std's hashers do not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::fnv1a;

    #[test]
    fn published_vectors() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
