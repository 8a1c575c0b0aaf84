//! Weights of networks: a source of them, and pseudo-random ones. Those are the same on every machine, made when a network is built, and
//! given back when it is dropped. A network that is built once more before that, for another length say, shares them.
//!
//! They have the sizes and the distribution of trained weights, and nothing else of them: what a network predicts with them means
//! nothing.
//!
//! Element `i` of a tensor is number `i + 1` of the SplitMix64 sequence that begins at the FNV-1a hash of the tensor's name,
//! xor [`SEED`]; its upper 24 bits become a number of [-1, 1), which is scaled and shifted in single precision.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use bytes::Bytes;
use kiln_ir::func::{ElementType, Tensor, TensorType};
use memmap2::MmapMut;

use super::error::ArchError;

/// Makes these weights others than those of another seed.
const SEED: u64 = 20261122;

/// Bytes from which a tensor has a mapping of its own, so that its memory goes back to the system when it is dropped.
const OWN_MAPPING: u64 = 256 << 10;

/// Gives networks their weights.
pub(crate) trait Weights {
    /// The weights of a name, in f32 and of this shape. `distribution` is what pseudo-random ones are drawn from.
    fn weight(&self, name: &str, shape: &[u64], distribution: Distribution) -> Result<Tensor, ArchError>;
}

/// Pseudo-random weights.
pub(super) struct PseudoRandom;

impl Weights for PseudoRandom {
    fn weight(&self, name: &str, shape: &[u64], distribution: Distribution) -> Result<Tensor, ArchError> {
        weight(name, shape, distribution)
    }
}

/// The uniform distribution that the elements of a tensor are drawn from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Distribution {
    /// Rows of a table of embeddings.
    Embedding,
    /// Biases, and the means of batch normalisation.
    Bias,
    /// Scales of normalisation.
    Scale,
    /// Scales of the last normalisation of a residual branch, which keep sums of many branches small.
    BranchScale,
    /// Variances of batch normalisation.
    Variance,
    /// Weights of sums of products, whose standard deviation is `gain / sqrt(n)` for sums of `n`.
    Sums {
        /// The gain.
        gain: f64,
    },
}

impl Distribution {
    /// Half the width and the middle.
    fn range(self, shape: &[u64]) -> (f32, f32) {
        match self {
            Distribution::Embedding => (0.08, 0.0),
            Distribution::Bias => (0.1, 0.0),
            Distribution::Scale => (0.2, 1.0),
            Distribution::BranchScale => (0.1, 0.35),
            Distribution::Variance => (0.5, 1.0),
            Distribution::Sums { gain } => {
                let summed: u64 = shape.iter().skip(1).product();
                ((gain * (3.0 / summed as f64).sqrt()) as f32, 0.0)
            }
        }
    }
}

/// The state that elements are a function of.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    name: String,
    bytes: usize,
    /// Half the width and the middle, as bits.
    range: [u32; 2],
}

/// Weights with mappings of their own that are alive, and some that were.
static ALIVE: LazyLock<Mutex<HashMap<Key, Weak<MmapMut>>>> = LazyLock::new(Mutex::default);

/// A mapping that is not written any more.
struct Shared(Arc<MmapMut>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The elements of a key in a mapping, which others may have too.
fn shared(key: &Key, fill: impl FnOnce(&mut [f32])) -> std::io::Result<Shared> {
    let alive = || ALIVE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(mapping) = alive().get(key).and_then(Weak::upgrade) {
        return Ok(Shared(mapping));
    }
    // Not under the lock: others go on. What two threads need at once is made twice.
    let mut mapping = MmapMut::map_anon(key.bytes)?;
    fill(bytemuck::cast_slice_mut(&mut mapping));
    let mapping = Arc::new(mapping);
    let mut alive = alive();
    alive.retain(|_, mapping| mapping.strong_count() > 0);
    alive.insert(key.clone(), Arc::downgrade(&mapping));
    Ok(Shared(mapping))
}

/// Pseudo-random weights of a name.
fn weight(name: &str, shape: &[u64], distribution: Distribution) -> Result<Tensor, ArchError> {
    let (half, middle) = distribution.range(shape);
    uniform(name, shape, half, middle)
}

/// Numbers from `middle - half` to `middle + half`.
pub(super) fn uniform(name: &str, shape: &[u64], half: f32, middle: f32) -> Result<Tensor, ArchError> {
    let ty = TensorType::new(ElementType::F32, shape)?;
    let no_memory = |source| ArchError::Memory { name: name.into(), bytes: ty.bytes(), source };
    if ty.bytes() < OWN_MAPPING {
        let mut elements = vec![0.0; ty.elements() as usize];
        fill(name, half, middle, &mut elements);
        return Ok(Tensor::from_elements(shape, elements).expect("as many as the shape says"));
    }
    let length = usize::try_from(ty.bytes()).map_err(|e| no_memory(std::io::Error::other(e)))?;
    let key = Key { name: name.into(), bytes: length, range: [half, middle].map(f32::to_bits) };
    let elements = shared(&key, |elements| fill(name, half, middle, elements)).map_err(no_memory)?;
    Ok(Tensor::new(ty, Bytes::from_owner(elements)).expect("as long as its type says"))
}

fn fill(name: &str, half: f32, middle: f32, elements: &mut [f32]) {
    let start = start(name);
    // Whole chunks of integers, then of elements: the second loop is then vector code.
    let mut upper = [0; 16];
    for (chunk, elements) in elements.chunks_mut(upper.len()).enumerate() {
        let first = chunk * upper.len();
        for (i, upper) in upper.iter_mut().enumerate() {
            *upper = (number(start, (first + i) as u64) >> 40) as i32;
        }
        for (element, upper) in elements.iter_mut().zip(upper) {
            // 24 bits are exact in single precision, and so is the number of [-1, 1).
            let unit = upper as f32 * (1.0 / (1 << 24) as f32);
            *element = (2.0 * unit - 1.0) * half + middle;
        }
    }
}

/// Where the sequence of a name begins.
pub(super) fn start(name: &str) -> u64 {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash ^ SEED
}

/// Number `i`, from 0, of the sequence that begins there.
pub(super) fn number(start: u64, i: u64) -> u64 {
    let z = start.wrapping_add(i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_other_programs() {
        // Computed with NumPy: the first three elements and the last.
        let check = |name: &str, shape: &[u64], distribution, expected: [u32; 4]| {
            let tensor = weight(name, shape, distribution).unwrap();
            let elements = tensor.elements::<f32>().unwrap();
            assert_eq!(elements.len() as u64, shape.iter().product::<u64>());
            let found = [elements[0], elements[1], elements[2], elements[elements.len() - 1]];
            assert_eq!(found.map(f32::to_bits), expected, "{name}");
        };
        let gain = std::f64::consts::SQRT_2;
        let expected = [0x3d718bc2, 0xbd998d68, 0x3e0c4252, 0x3e1a5bcc];
        check("conv1.weight", &[64, 3, 7, 7], Distribution::Sums { gain }, expected);
        let expected = [0xbc2517d5, 0x3c65fb23, 0x3d1477fd, 0xbd39d98a];
        check("encoder.layer.1.output.dense.weight", &[64, 128], Distribution::Sums { gain: 0.4 }, expected);
        let expected = [0x3ecf0813, 0x3eb12229, 0x3eb3d1ca, 0x3edb84eb];
        check("layer1.0.bn3.weight", &[256], Distribution::BranchScale, expected);
    }

    #[test]
    fn large_weights_go_on_where_small_ones_end() {
        let long = uniform("any", &[OWN_MAPPING], 0.5, 2.0).unwrap();
        let short = uniform("any", &[1000], 0.5, 2.0).unwrap();
        let (long, short) = (long.elements::<f32>().unwrap(), short.elements::<f32>().unwrap());
        assert_eq!(long[..1000], short[..]);
        assert!(long.iter().all(|w| (1.5..2.5).contains(w)));
        let mean = long.iter().map(|w| f64::from(*w)).sum::<f64>() / long.len() as f64;
        assert!((mean - 2.0).abs() < 0.01, "{mean}");
        assert_ne!(uniform("another", &[1000], 0.5, 2.0).unwrap().to_f64()[0], f64::from(short[0]));
    }

    #[test]
    fn large_weights_are_shared_while_they_are_alive() {
        let make = |name, half| uniform(name, &[OWN_MAPPING], half, 0.0).unwrap();
        let first = make("shared", 0.5);
        let place = |tensor: &Tensor| tensor.data().as_ptr();
        assert_eq!(place(&first), place(&make("shared", 0.5)));
        assert_ne!(place(&first), place(&make("shared", 0.25)));
        assert_ne!(place(&first), place(&make("alone", 0.5)));
        let values = first.elements::<f32>().unwrap().into_owned();
        drop(first);
        let is_alive = |name: &str| ALIVE.lock().unwrap().iter().any(|(k, w)| k.name == name && w.strong_count() > 0);
        assert!(!is_alive("shared"));
        assert_eq!(make("shared", 0.5).elements::<f32>().unwrap()[..], values);
    }

    #[test]
    fn too_large_weights_are_an_error() {
        assert!(matches!(uniform("any", &[1 << 40], 1.0, 0.0), Err(ArchError::Type(_))));
    }
}
