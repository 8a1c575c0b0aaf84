//! Loops in assembler text.

use kiln_compiler::target::VectorIsa;

/// An innermost loop: what stands between a label and a branch back to it, the branch included.
#[derive(Debug, PartialEq)]
pub struct Loop {
    /// The label, without its colon.
    pub label: String,
    /// Instructions.
    pub body: Vec<String>,
}

impl Loop {
    /// Vector multiply-add instructions in the body.
    pub fn multiply_adds(&self) -> usize {
        self.body.iter().filter(|i| multiplies(i)).count()
    }

    /// The instruction set of the multiply-adds, told by the register they accumulate into.
    pub fn isa(&self) -> VectorIsa {
        let accumulator = self.body.iter().find(|i| multiplies(i)).and_then(|i| i.split_whitespace().nth(1));
        match accumulator {
            Some(r) if r.starts_with("zmm") => VectorIsa::Avx512,
            Some(r) if r.starts_with('z') => VectorIsa::Sve,
            Some(r) if r.starts_with("ymm") => VectorIsa::Avx2,
            _ => VectorIsa::Neon,
        }
    }
}

fn multiplies(instruction: &str) -> bool {
    const FLOATS: [&str; 4] = ["fmla ", "bfmmla ", "bfdot ", "vfmadd"];
    const INTEGERS: [&str; 11] =
        ["mla ", "smmla ", "ummla ", "usmmla ", "sdot ", "udot ", "usdot ", "sudot ", "vpdp", "vpmaddwd ", "vpmulld "];
    let instruction = instruction.trim_start_matches("{vex3} ");
    FLOATS.iter().chain(&INTEGERS).any(|m| instruction.starts_with(m))
}

/// The innermost loops of a listing that hold a vector multiply-add, in order.
pub fn multiplying_loops(listing: &str) -> Vec<Loop> {
    let mut body = vec![];
    let mut labels: Vec<(&str, usize)> = vec![];
    let mut loops = vec![];
    let mut innermost_from = 0;
    for line in listing.lines().map(code) {
        if let Some(label) = line.strip_suffix(':') {
            labels.push((label, body.len()));
        } else if !line.is_empty() && !line.starts_with('.') {
            body.push(line.split_whitespace().collect::<Vec<_>>().join(" "));
            let Some((label, start)) = labels.iter().rfind(|(label, _)| branches_to(line, label)) else { continue };
            // A loop around one already found begins before the end of that one.
            if *start >= innermost_from {
                loops.push(Loop { label: (*label).into(), body: body[*start..].to_vec() });
                innermost_from = body.len();
            }
        }
    }
    loops.retain(|l| l.multiply_adds() > 0);
    loops
}

/// The line without comment: `//` or `;` in A64 listings, `#` and a space in either kind (A64 immediates have no space).
fn code(line: &str) -> &str {
    let end = ["//", ";", "# "].iter().filter_map(|mark| line.find(mark)).min().unwrap_or(line.len());
    line[..end].trim()
}

fn branches_to(instruction: &str, label: &str) -> bool {
    let mnemonic = instruction.split_whitespace().next().unwrap_or_default();
    let target = instruction.rsplit([' ', '\t', ',']).next();
    !matches!(mnemonic, "bl" | "call") && mnemonic != instruction && target == Some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A64: &str = "\
kernel:
        movi    v16.2d, #0              // c[0..4, 0]
.Lrows:
        mov     x3, #16
.Lk:                                    // k in 0..16
        ldp     q0, q1, [x0], #32       // lhs
        fmla    v16.4s, v0.4s, v4.s[0]
        fmla    v17.4s, v1.4s, v4.s[0]
        subs    x3, x3, #1
        b.ne    .Lk
        cbnz    x5, .Lrows
        ret
driver:
.Lm:
        bl      kernel
        cbnz    x7, .Lm
";

    #[test]
    fn finds_the_innermost_loop() {
        let loops = multiplying_loops(A64);
        assert_eq!(loops.len(), 1, "{loops:?}");
        assert_eq!(loops[0].label, ".Lk");
        assert_eq!(loops[0].body.len(), 5);
        assert_eq!(loops[0].body[0], "ldp q0, q1, [x0], #32");
        assert_eq!(loops[0].multiply_adds(), 2);
        assert_eq!(loops[0].isa(), VectorIsa::Neon);
    }

    #[test]
    fn reads_x86() {
        let text = ".Lk:\n vbroadcastss ymm12, dword ptr [rdi] # lhs\n vfmadd231ps ymm0, ymm12, ymm14\n jne .Lk\n";
        let loops = multiplying_loops(text);
        assert_eq!((loops.len(), loops[0].body.len(), loops[0].isa()), (1, 3, VectorIsa::Avx2));
        assert!(loops[0].body[0].ends_with("[rdi]"));
        assert_eq!(multiplying_loops(&text.replace("ymm", "zmm"))[0].isa(), VectorIsa::Avx512);
    }
}
