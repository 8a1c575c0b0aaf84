//! The text form is a faithful one.

use kiln_compiler::microkernel::{
    Access, Addr, Binary, Inst, MicroKernel, Op, P, Param, Region, Stmt, Temps, V, parse::ParseError,
};
use kiln_compiler::target::VectorIsa;
use kiln_ir::DType;
use proptest::prelude::*;

use crate::kernels;

#[test]
fn canonical_text_is_printed_as_it_was_read() {
    for sample in kernels::all() {
        assert_eq!(sample.kernel().to_string(), sample.text);
    }
}

#[test]
fn layout_is_free_and_notes_between_statements_are_dropped() {
    let sample = kernels::broadcasting();
    let spread = sample.text.replace("  ", "\t").replace(" = ", "=").replace('\n', " \r\n \t\r\n; a note\r\n");
    assert_eq!(spread.parse::<MicroKernel>().unwrap(), sample.kernel());
    let tabbed = sample.text.replace("c[0, 0..8]", "c[0,\t0..8]\r");
    assert_eq!(tabbed.parse::<MicroKernel>().unwrap(), sample.kernel());
}

#[test]
fn errors_name_line_word_and_expectation() {
    let text = kernels::broadcasting().text;
    let error = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1).parse::<MicroKernel>().unwrap_err()
    };
    let expect = |error: ParseError, line, found: &str, expected: &str| {
        assert_eq!((error.line, error.found.as_str()), (line, found), "{error}");
        assert!(error.expected.contains(expected), "{error}");
    };
    expect(error("microkernel", "kernel"), 1, "kernel", "`microkernel`");
    expect(error("avx2", "avx3"), 1, "avx3", "avx2");
    expect(error("registers=16", "registers=4294967296"), 1, "4294967296", "registers");
    expect(error("param rhs", "param lhs"), 3, "lhs", "no other parameter");
    expect(error("f32 read 6", "f64 read 6"), 3, "f64", "element type");
    expect(error("f32 read 6", "f32 rw 6"), 3, "rw", "readwrite");
    expect(error("6x32", "6y32"), 3, "6y32", "6x2048");
    expect(error("v0 = zero", "v4294967296 = zero"), 6, "v4294967296", "operation");
    expect(error("v0 = zero", "v0 = one"), 6, "one", "`zero`");
    expect(error("v0 = zero", "v0 = zero zero"), 6, "zero", "end of line");
    expect(error("v0 = zero", "param d: f32 read 1x4 stride 4\nv0 = zero\nparam e"), 8, "param", "come first");
    expect(error("loop 3 {", "loop 3"), 8, "end of line", "`{`");
    expect(error("v2 = load", "loop 2 {\n v2 = load"), 9, "loop", "do not nest");
    expect(error("rhs[0 + 80*t]", "rsh[0 + 80*t]"), 9, "rsh", "parameter");
    expect(error("rhs[0 + 80*t]", "rhs[0 + 80*k]"), 9, "k", "`t`");
    expect(error("rhs[0 + 80*t]", "rhs[9223372036854775808]"), 9, "9223372036854775808", "offset");
    expect(error("rhs[0 + 80*t] x8", "rhs[0 + 80*t]"), 9, "end of line", "elements");
    expect(error("v1 x8\n}\n", "v1 x8\n}\n}"), 29, "}", "end of text");
    expect(error("v1 x8\n}\n", "v1 x8\n"), 27, "end of text", "`}`");
    expect("".parse::<MicroKernel>().unwrap_err(), 1, "end of text", "`microkernel`");
    let shown = error("avx2", "avx3").to_string();
    assert_eq!(shown, "line 1: found `avx3`, expected neon, sve, avx512 or avx2");
}

fn addr() -> impl Strategy<Value = Addr> {
    let edge = || prop_oneof![Just(0), Just(i64::MIN), Just(i64::MAX), any::<i64>(), -64i64..64];
    (0u8..2, edge(), edge()).prop_map(|(param, offset, step)| Addr { param: P(param), offset, step })
}

fn op() -> impl Strategy<Value = Op> {
    let v = || any::<u32>().prop_map(V);
    prop_oneof![
        v().prop_map(|d| Op::Zero { d }),
        (v(), addr(), any::<u16>()).prop_map(|(d, src, lanes)| Op::Load { d, src, lanes }),
        (v(), addr(), any::<u8>()).prop_map(|(d, src, count)| Op::LoadLanes { d, src, count }),
        (v(), addr()).prop_map(|(d, src)| Op::Broadcast { d, src }),
        (v(), addr(), any::<u16>()).prop_map(|(s, dst, lanes)| Op::Store { s, dst, lanes }),
        (v(), v(), v()).prop_map(|(d, a, b)| Op::Fma { d, a, b }),
        (v(), v(), v(), any::<u8>()).prop_map(|(d, a, b, lane)| Op::FmaLane { d, a, b, lane }),
        (v(), v(), v()).prop_map(|(d, a, b)| Op::Binary { f: Binary::Add, d, a, b }),
        (v(), v(), v()).prop_map(|(d, a, b)| Op::Binary { f: Binary::Max, d, a, b }),
        (v(), any::<u16>()).prop_map(|(s, slot)| Op::Spill { s, slot }),
        (v(), any::<u16>()).prop_map(|(d, slot)| Op::Reload { d, slot }),
    ]
}

fn inst() -> impl Strategy<Value = Inst> {
    // Any line that does not start or end with space; among them some that look like code.
    let why = prop_oneof![Just(String::new()), "[^\\pC\\pZ]([^\\pC]{0,60}[^\\pC\\pZ])?", Just("; } loop 2 {".into())];
    let temps = prop::collection::vec(any::<u32>().prop_map(V), 0..=Temps::MOST);
    (op(), temps, why).prop_map(|(op, temps, why)| Inst { op, temps: Temps::new(&temps).unwrap(), why: why.into() })
}

/// Well-formed, but hardly ever meaningful micro-kernels.
fn kernel() -> impl Strategy<Value = MicroKernel> {
    let region = any::<[u64; 3]>().prop_map(|[rows, row_bytes, row_stride]| Region { rows, row_bytes, row_stride });
    let access = prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::ReadWrite)];
    let param = |name: &'static str| {
        (access.clone(), region.clone()).prop_map(move |(access, region)| Param {
            name: name.into(),
            dtype: DType::F32,
            access,
            region,
        })
    };
    let isa = prop_oneof![Just(VectorIsa::Neon), Just(VectorIsa::Sve), Just(VectorIsa::Avx512), Just(VectorIsa::Avx2),];
    let stmt = prop_oneof![
        3 => inst().prop_map(Stmt::Inst),
        1 => (any::<u64>(), inst(), prop::collection::vec(inst(), 0..4))
            .prop_map(|(trips, Inst { why, .. }, body)| Stmt::Loop { trips, why: why.to_string(), body }),
    ];
    let header = ("[A-Za-z_][A-Za-z0-9_]{0,12}", isa, any::<u32>(), any::<u32>());
    (header, (param("v0"), param("loop")), prop::collection::vec(stmt, 0..8)).prop_map(
        |((name, isa, lanes, registers), (first, second), body)| MicroKernel {
            name,
            isa,
            lanes,
            registers,
            params: vec![first, second],
            body,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_micro_kernel_is_read_as_it_was_printed(mk in kernel()) {
        prop_assert_eq!(mk.to_string().parse::<MicroKernel>().unwrap(), mk);
    }

    #[test]
    fn nothing_panics_on_any_micro_kernel(mut mk in kernel()) {
        let _ = mk.verify();
        let _ = (mk.counts().to_string(), mk.loop_counts());
        for stmt in &mut mk.body {
            if let Stmt::Loop { trips, .. } = stmt {
                *trips %= 4;
            }
        }
        let _ = mk.interpret_f32(&mut [&mut [0.0; 16], &mut [0.0; 16]]);
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = text.parse::<MicroKernel>();
    }

}

proptest! {
    // Most damage is refused; fewer than one text in thirty that is read fails the test.
    #![proptest_config(ProptestConfig { max_global_rejects: 30 * 500, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn damaged_text_that_is_read_is_read_faithfully(
        sample in 0usize..3,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..5), 1..4),
    ) {
        const INSERTED: &[&str] = &["", " ", "\n", "\r", "\t", ";", "}", "{", "[", "v", "0", "99999999999999999999", "-", "é"];
        let whole = kernels::all()[sample].text.clone();
        let mut text = whole.clone();
        for (at, inserted, removed) in edits {
            let start = at.index(text.len());
            let end = (start + removed).min(text.len());
            if text.is_char_boundary(start) && text.is_char_boundary(end) {
                text.replace_range(start..end, INSERTED[inserted.index(INSERTED.len())]);
            }
        }
        let read = text.parse::<MicroKernel>().ok().filter(|_| text != whole);
        let Some(mk) = read else { return Err(TestCaseError::reject("refused")) };
        prop_assert_eq!(mk.to_string().parse::<MicroKernel>().unwrap(), mk);
    }
}
