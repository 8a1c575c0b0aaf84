//! Conversions of f16 by the definition of binary16 (IEEE 754-2019, 3.4 and 4.3.1), in exact arithmetic on f64, and micro-kernels
//! that convert all there is to convert.

use kiln_compiler::microkernel::MicroKernel;
use kiln_compiler::target::VectorIsa;

/// The value of an f16.
fn widened(bits: u16) -> f64 {
    let (exponent, fraction) = (bits >> 10 & 31, f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(i32::from(exponent) - 25),
    };
    if bits >> 15 == 0 { magnitude } else { -magnitude }
}

/// The bits of the f16 that is nearest to a number, ties to even.
fn rounded(value: f32) -> u16 {
    let (sign, magnitude) = ((value.to_bits() >> 16 & 0x8000) as u16, f64::from(value.abs()));
    // The exponent of the last place, which is that of the least normal number below it too.
    let exponent = (magnitude.log2().floor() as i32).max(-14) - 10;
    let places = (magnitude / 2f64.powi(exponent)).round_ties_even();
    let bits = if magnitude >= 65520.0 {
        // Half a place beyond the greatest number.
        0x7c00
    } else {
        // One that reaches 2048 is the first of the next exponent, and so are its bits.
        ((exponent + 24) as u16) * 1024 + places as u16
    };
    sign | bits
}

/// A micro-kernel that loads `elements` of `from` and stores them as `to`, a register at a time.
fn conversion(isa: VectorIsa, lanes: usize, [from, to]: [(&str, usize); 2], elements: usize) -> MicroKernel {
    let ([read, written], trips) = ([from.1, to.1].map(|size| elements * size), elements / lanes);
    let text = format!(
        "microkernel uk {isa} lanes={lanes} registers=16 {{
            param src: {} read 1x{read} stride {read}
            param dst: {} write 1x{written} stride {written}
            loop {trips} {{
                v0 = load src[0 + {}*t] x{lanes}
                store dst[0 + {}*t], v0 x{lanes} with v1, v2
            }}
        }}",
        from.0,
        to.0,
        from.1 * lanes,
        to.1 * lanes,
    );
    let mk: MicroKernel = text.parse().unwrap();
    mk.verify().unwrap();
    mk
}

/// Panics unless `run`, which has the memory before and gives the memory after, and the interpreter convert every f16 to f32, and
/// f32 around every place where rounding to f16 changes, by the definition.
pub fn check(isa: VectorIsa, lanes: usize, run: impl Fn(&MicroKernel, &[Vec<u8>]) -> Vec<Vec<u8>>) {
    let both = |mk: &MicroKernel, data: Vec<Vec<u8>>| {
        let mut interpreted = data.clone();
        mk.interpret(&mut interpreted.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
        [run(mk, &data), interpreted].map(|mut all| all.remove(1))
    };

    let halves: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let mk = conversion(isa, lanes, [("f16", 2), ("f32", 4)], 1 << 16);
    for found in both(&mk, vec![halves, vec![0; 4 << 16]]) {
        for (bits, found) in (0..=u16::MAX).zip(found.as_chunks().0) {
            let (found, expected) = (f32::from_le_bytes(*found), widened(bits));
            let is_same = f64::from(found) == expected && found.is_sign_negative() == expected.is_sign_negative();
            assert!(is_same || (found.is_nan() && expected.is_nan()), "{isa}: {bits:#06x} is {expected}, not {found}");
        }
    }

    // The bits that normal numbers lose: none, the least, what is around a half, all. Others lose more, and have fewer that matter.
    const LOST: [u32; 6] = [0, 1, 0xfff, 0x1000, 0x1001, 0x1fff];
    let words: Vec<u32> = (0..1 << 19).flat_map(|kept| LOST.map(|lost| kept << 13 | lost)).collect();
    let bytes = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let mk = conversion(isa, lanes, [("f32", 4), ("f16", 2)], words.len());
    for found in both(&mk, vec![bytes, vec![0; 2 * words.len()]]) {
        for (word, found) in words.iter().zip(found.as_chunks().0) {
            let (value, found) = (f32::from_bits(*word), u16::from_le_bytes(*found));
            if value.is_nan() {
                assert!(found & 0x7fff > 0x7c00, "{isa}: {word:#010x} is NaN, not {found:#06x}");
            } else {
                assert_eq!(found, rounded(value), "{isa}: {value:e}");
            }
        }
    }
}
