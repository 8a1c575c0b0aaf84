//! Loads and stores of bf16, which registers hold widened to f32.
//!
//! A bf16 is the upper half of an f32. Narrowing adds 0x7fff, and 1 more if the last bit that stays is set, which rounds to
//! nearest, ties to even; a NaN instead gets its quiet bit set, for the bits that go may be all that make it one.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::types::{I16, I16X8, I32, I64X2};
use cranelift_codegen::ir::{InstBuilder, Value};

use super::{Emitter, flags};
use crate::microkernel::Addr;

/// The number that rounding adds to all bits, less the last bit that stays.
const ROUND: u32 = 0x7fff;
/// The bit that tells quiet NaNs.
const QUIET: u32 = 0x0040_0000;

impl Emitter<'_> {
    /// `count` elements from `src` in the low lanes, zeros above; nothing beyond is read.
    pub(super) fn load_bf16(&mut self, src: &Addr, count: u32) -> Value {
        let (base, offset) = self.address(src);
        if count == 4 {
            let words = self.b.ins().uload16x4(flags(), base, offset);
            return self.widened(words);
        }
        // As the odd ones of words: widened already.
        let zero = self.zero();
        let mut words = self.cast(I16X8, zero);
        for lane in 0..count {
            let x = self.load(I16, base, offset + 2 * lane as i32);
            words = self.b.ins().insertlane(words, x, 2 * lane as u8 + 1);
        }
        self.floats(words)
    }

    /// One element in all lanes.
    pub(super) fn broadcast_bf16(&mut self, src: &Addr) -> Value {
        let (base, offset) = self.address(src);
        let x = self.load(I16, base, offset);
        let halves = self.b.ins().splat(I16X8, x);
        let words = self.words(halves);
        self.widened(words)
    }

    /// The lower halves of lanes moved up.
    fn widened(&mut self, words: Value) -> Value {
        let by = self.b.ins().iconst(I32, 16);
        let words = self.b.ins().ishl(words, by);
        self.floats(words)
    }

    /// Rounds the first `lanes` lanes of `v` and stores them.
    pub(super) fn store_bf16(&mut self, v: Value, dst: &Addr, lanes: u16) {
        let words = self.words(v);
        let (round, quiet, shift, last) =
            (self.splat(ROUND), self.splat(QUIET), self.b.ins().iconst(I32, 16), self.b.ins().iconst(I32, 31));
        let up = self.b.ins().iconst(I32, 15);
        let odd = self.b.ins().ishl(words, up);
        let odd = self.b.ins().ushr(odd, last);
        let increment = self.b.ins().iadd(odd, round);
        let rounded = self.b.ins().iadd(words, increment);
        let quieted = self.b.ins().bor(words, quiet);
        let is_nan = self.b.ins().fcmp(FloatCC::NotEqual, v, v);
        let result = self.b.ins().bitselect(is_nan, quieted, rounded);
        let result = self.b.ins().ushr(result, shift);
        let halves = self.b.ins().unarrow(result, result);
        let (base, offset) = self.address(dst);
        if lanes == 4 {
            let both = self.cast(I64X2, halves);
            let low = self.b.ins().extractlane(both, 0);
            self.b.ins().store(flags(), low, base, offset);
            return;
        }
        for lane in 0..lanes as u8 {
            let x = self.b.ins().extractlane(halves, lane);
            self.b.ins().store(flags(), x, base, offset + 2 * i32::from(lane));
        }
    }
}
