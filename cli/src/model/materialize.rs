//! Pseudo-random weights from their description: `weights.json` beside a model describes the `weights.bin` that the model
//! refers to. Element `i` of a tensor is number `i` of SplitMix64, started from the FNV-1a hash of its name and the seed.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;

/// The most elements of a tensor: 4 GiB of them.
const MOST: u64 = 1 << 30;

#[derive(Deserialize)]
struct Weights {
    seed: String,
    tensors: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    prng: String,
    /// The shape before transposition.
    shape: Vec<u64>,
    transpose: bool,
    a: f64,
    b: f64,
    offset: u64,
    nbytes: u64,
}

/// The path of `weights.json` if it exists and `weights.bin` does not.
pub fn missing(model: &Path) -> Option<PathBuf> {
    let json = model.with_file_name("weights.json");
    (json.is_file() && !model.with_file_name("weights.bin").exists()).then_some(json)
}

/// Writes the weights that `json` describes to a file beside it.
pub fn materialize(json: &Path) -> Result<(), Error> {
    let in_json = |e: std::io::Error| Error::File(e).at(json.display().to_string());
    let file = File::open(json).map_err(in_json)?;
    let weights: Weights = serde_json::from_reader(BufReader::new(file)).map_err(|e| in_json(e.into()))?;
    let bad = |why: String| in_json(std::io::Error::other(why));
    let seed: u64 = weights.seed.parse().map_err(|_| bad(format!("`{}` is no seed", weights.seed)))?;
    let path = json.with_file_name("weights.bin");
    // Renamed at the end, so that a file of this name is always complete.
    let draft = json.with_file_name(format!("weights.bin.{}", std::process::id()));
    let outcome = write(&draft, seed, &weights.tensors).and_then(|()| std::fs::rename(&draft, &path));
    outcome.map_err(|e| {
        let _ = std::fs::remove_file(&draft);
        Error::File(e).at(path.display().to_string())
    })
}

fn write(path: &Path, seed: u64, tensors: &[Described]) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut at = 0;
    for t in tensors {
        let elements = t.shape.iter().try_fold(1u64, |all, n| all.checked_mul(*n)).filter(|n| *n <= MOST);
        let is_matrix = t.shape.len() == 2 || !t.transpose;
        let gap = t.offset.checked_sub(at).filter(|gap| *gap <= 1 << 20);
        let (Some(elements), Some(gap), true) = (elements.filter(|n| n * 4 == t.nbytes), gap, is_matrix) else {
            return Err(std::io::Error::other(format!("`{}` is described in contradictions", t.prng)));
        };
        out.write_all(&vec![0; gap as usize])?;
        let start = t
            .prng
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
            ^ seed;
        let (a, b) = (t.a as f32, t.b as f32);
        let (rows, columns) = match t.transpose {
            true => (t.shape[1], t.shape[0]),
            false => (elements, 1),
        };
        for row in 0..rows {
            for column in 0..columns {
                let i = if t.transpose { column * rows + row } else { row };
                let element = (2.0 * uniform(start, i) - 1.0) * a + b;
                out.write_all(&element.to_le_bytes())?;
            }
        }
        at = t.offset + t.nbytes;
    }
    out.flush()
}

/// Number `i` after a start, in [0, 1).
fn uniform(start: u64, i: u64) -> f32 {
    let z = start.wrapping_add((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_transposed_scaled_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("weights.json");
        let text = |transpose: bool| {
            format!(
                r#"{{"seed":"7","tensors":[{{"prng":"w","shape":[2,3],"transpose":{transpose},"a":0.5,"b":1.0,"offset":0,"nbytes":24}}]}}"#
            )
        };
        let model = folder.path().join("model.onnx");
        let read = || {
            let bytes = std::fs::read(folder.path().join("weights.bin")).unwrap();
            bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>()
        };
        std::fs::write(&json, text(false)).unwrap();
        assert_eq!(missing(&model), Some(json.clone()));
        materialize(&json).unwrap();
        assert_eq!(missing(&model), None);
        let plain = read();
        assert!(plain.iter().all(|v| (0.5..1.5).contains(v)));
        std::fs::write(&json, text(true)).unwrap();
        materialize(&json).unwrap();
        assert_eq!(read(), [plain[0], plain[3], plain[1], plain[4], plain[2], plain[5]]);
        for (from, to) in [("24", "20"), ("[2,3]", "[4294967296,4294967296]"), ("[2,3]", "[6]"), ("\"7\"", "\"x\"")] {
            std::fs::write(&json, text(true).replace(from, to)).unwrap();
            assert!(materialize(&json).is_err(), "{to}");
        }
    }
}
