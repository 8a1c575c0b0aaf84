//! Random numbers and random contents of memory.

use kiln_compiler::microkernel::MicroKernel;
use kiln_ir::DType;

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// The bits of an f32: ordinary numbers mostly, else anything, special values among it.
    pub fn word(&mut self) -> u32 {
        const SPECIAL: [u32; 14] = [
            0,
            0x8000_0000,
            1,
            0x8000_0001,
            0x007f_ffff,
            0x7f7f_ffff,
            0xff7f_ffff,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0000,
            0x7f80_0001,
            0xffff_ffff,
            0x3f80_8000,
            0x3f81_8000,
        ];
        match self.below(8) {
            0 => self.pick(&SPECIAL),
            1 => self.next() as u32,
            2 => (self.below(17) as f32 - 8.0).to_bits(),
            _ => ((self.next() as i32 as f32) / (1 << 28) as f32).to_bits(),
        }
    }
}

/// Contents of every parameter's region.
pub fn memory(mk: &MicroKernel, random: &mut Random) -> Vec<Vec<u8>> {
    let one = |random: &mut Random, dtype: DType| match dtype {
        DType::F32 => random.word().to_le_bytes().to_vec(),
        DType::Bf16 => ((random.word() >> 16) as u16).to_le_bytes().to_vec(),
        // Numbers of its range, and any bits.
        DType::F16 if random.once_in(2) => half::f16::from_f32(f32::from_bits(random.word())).to_le_bytes().to_vec(),
        DType::F16 => (random.word() as u16).to_le_bytes().to_vec(),
        _ => random.next().to_le_bytes()[..dtype.bytes()].to_vec(),
    };
    let mut contents = vec![];
    for p in &mk.params {
        let elements = p.region.row_bytes as usize / p.dtype.bytes();
        contents.push((0..elements).flat_map(|_| one(random, p.dtype)).collect());
    }
    contents
}
