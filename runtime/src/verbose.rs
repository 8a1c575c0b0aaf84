//! Telling what happens, in the words and the lines of oneDNN's verbose mode:
//!
//! ```text
//! kiln_verbose,v1,primitive,create:cache_miss,cpu,matmul,avx2/outer:6x16,undef,src:f32::blocked:ab::f0 wei:f32::blocked:ab::f0 dst:f32::blocked:ab::f0,attr-post-ops:bias+relu,,matmul f32 128x768:768x3072 +bias+relu,0.812
//! ```
//!
//! Marker, version, what is told, of what (`create:` with where the kernel came from, or `exec`), engine, operation,
//! implementation (vector unit, form and first register tile), propagation, tensors, attributes, one that is always empty,
//! problem, milliseconds. The problem is Kiln's own canonical string, which holds no comma.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use kiln_compiler::schedule::Schedule;
use kiln_ir::{Problem, Role};

/// The values of a setting, in words.
pub(crate) const EXPECTED: &str =
    "none, error, warn, profile_create, profile_exec, profile, dispatch or all, or several of them";

/// Where lines go.
pub(crate) type Sink = Arc<dyn Fn(&str) + Send + Sync>;

/// The events that are told, and the sink of the lines.
#[derive(Clone)]
pub(crate) struct Verbose {
    /// Calls that fail.
    pub(crate) error: bool,
    /// Kernels made or found on disk.
    pub(crate) create: bool,
    /// Calls of kernels.
    pub(crate) exec: bool,
    /// The reason why something is not as one might expect.
    pub(crate) dispatch: bool,
    /// Notices alone, which come with all others too.
    warn: bool,
    sink: Sink,
}

impl fmt::Debug for Verbose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verbose { error, create, exec, dispatch, .. } = self;
        write!(f, "Verbose(error: {error}, create: {create}, exec: {exec}, dispatch: {dispatch})")
    }
}

impl Verbose {
    /// Reads the words of `KILN_VERBOSE`, separated by commas, in either case. As oneDNN's, 0 is none, 1 `profile_exec` with
    /// errors, and 2 that and `profile_create`. Words that are oneDNN's and have no meaning here have no effect; `None` for others.
    pub(crate) fn parse(words: &str, sink: Sink) -> Option<Verbose> {
        let mut verbose = Verbose { error: false, create: false, exec: false, dispatch: false, warn: false, sink };
        for word in words.split(',') {
            match word.trim().to_ascii_lowercase().as_str() {
                "none" | "0" => {}
                "error" => verbose.error = true,
                "profile_create" => verbose.create = true,
                "profile_exec" => verbose.exec = true,
                "profile" => (verbose.create, verbose.exec) = (true, true),
                "1" => (verbose.error, verbose.exec) = (true, true),
                "2" => (verbose.error, verbose.create, verbose.exec) = (true, true, true),
                "dispatch" => verbose.dispatch = true,
                "all" | "-1" => {
                    (verbose.error, verbose.create, verbose.exec, verbose.dispatch) = (true, true, true, true);
                }
                "warn" => verbose.warn = true,
                "check" | "profile_externals" => {}
                other if other.starts_with("debuginfo=") || other.starts_with("filter=") => {}
                _ => return None,
            }
        }
        Some(verbose)
    }

    /// True if anything is told.
    pub(crate) fn is_on(&self) -> bool {
        self.error || self.create || self.exec || self.dispatch || self.warn
    }

    /// Lines to standard output. A reader who has gone away does not end the program.
    pub(crate) fn standard_output() -> Sink {
        Arc::new(|line| drop(writeln!(io::stdout(), "{line}")))
    }

    /// A creation or an execution.
    pub(crate) fn primitive(&self, event: &str, problem: &Problem, schedule: &Schedule, time: Duration) {
        let name = match problem.op().name() {
            "ip" => "inner_product",
            "conv" => "convolution",
            name => name,
        };
        let propagation = if name == "matmul" { "undef" } else { "forward_inference" };
        let tile = schedule.regions.first().map(|r| format!(":{}x{}", r.mr, r.nr)).unwrap_or_default();
        let form = format!("{:?}", schedule.form).to_ascii_lowercase();
        let milliseconds = time.as_secs_f64() * 1e3;
        (self.sink)(&format!(
            "kiln_verbose,v1,primitive,{event},cpu,{name},{}/{form}{tile},{propagation},{},{},,{problem},{milliseconds:.6}",
            schedule.isa,
            tensors(problem),
            attributes(problem),
        ));
    }

    /// A failed creation.
    pub(crate) fn failure(&self, problem: &Problem, error: &dyn fmt::Display) {
        let text = error.to_string().replace([',', '\n'], ";");
        (self.sink)(&format!("kiln_verbose,v1,primitive,error,cpu,{},{text},,,,,{problem},0", problem.op().name()));
    }

    /// Something that is not as it was asked for. Told whatever else is.
    pub(crate) fn notice(&self, about: &dyn fmt::Display, what: &dyn fmt::Display) {
        (self.sink)(&format!("kiln_verbose,v1,notice,{},{about}", what.to_string().replace([',', '\n'], ";")));
    }

    /// The reason why a kernel, or all of them, are as they are.
    pub(crate) fn reason(&self, about: &dyn fmt::Display, why: &str) {
        (self.sink)(&format!("kiln_verbose,v1,dispatch,{},{about}", why.replace([',', '\n'], ";")));
    }
}

fn tensors(problem: &Problem) -> String {
    let mut all = vec![];
    for operand in problem.operands() {
        let name = match operand.role {
            Role::Lhs => "src",
            Role::Rhs => "wei",
            Role::Dst => "dst",
            Role::Post(_) if operand.name.starts_with("bias") => "bia",
            Role::Post(_) => continue,
        };
        let strides = operand.layout.gaps().map(ToString::to_string).unwrap_or_default();
        all.push(format!("{name}:{}::blocked:{}:{strides}:f0", operand.dtype, operand.layout.tag()));
    }
    all.join(" ")
}

fn attributes(problem: &Problem) -> String {
    let mut all = vec![];
    if let Some(mode) = problem.fpmath() {
        all.push(format!("attr-fpmath:{mode}"));
    }
    let post = problem.epilogue().to_string();
    if !post.is_empty() {
        all.push(format!("attr-post-ops:{}", post.trim_start_matches('+')));
    }
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn words_are_onednns() {
        let parse = |words| Verbose::parse(words, Verbose::standard_output());
        let flags = |words| parse(words).map(|v| [v.error, v.create, v.exec, v.dispatch]);
        assert_eq!(flags("none"), Some([false; 4]));
        assert_eq!(flags("ALL"), Some([true; 4]));
        assert_eq!(flags("profile_create, dispatch,debuginfo=2,filter=x"), Some([false, true, false, true]));
        assert_eq!(flags("1"), Some([true, false, true, false]));
        assert_eq!(flags("2"), Some([true, true, true, false]));
        assert_eq!(flags("loud"), None);
        assert!(parse("warn").unwrap().is_on() && !parse("none,check").unwrap().is_on());
    }

    #[test]
    fn a_line_has_onednns_fields() {
        let lines = Arc::new(Mutex::new(vec![]));
        let sink: Sink = {
            let lines = lines.clone();
            Arc::new(move |line| lines.lock().unwrap().push(line.to_owned()))
        };
        let verbose = Verbose::parse("all", sink).unwrap();
        let problem = "ip f32 mb2ic64oc32 fpmath=bf16 +bias+add:ab+relu".parse().unwrap();
        let options = kiln_compiler::Options::default();
        let artifact = kiln_compiler::compile(&problem, &"x86-64-v3".parse().unwrap(), &options).unwrap();
        verbose.primitive("exec", &problem, &artifact.choice().schedule, Duration::from_micros(1_250));
        verbose.failure(&problem, &"no, not\nthis");
        verbose.reason(&problem, "one, two");
        verbose.notice(&"/a/file", &"not used, but compiled");
        let lines = lines.lock().unwrap();
        let fields: Vec<&str> = lines[0].split(',').collect();
        assert_eq!(fields[..6], ["kiln_verbose", "v1", "primitive", "exec", "cpu", "inner_product"]);
        assert!(fields[6].starts_with("avx2/"), "{}", fields[6]);
        assert_eq!(fields[7], "forward_inference");
        assert!(fields[8].starts_with("src:f32::blocked:ab::f0 wei:f32::blocked:ab::f0 bia:f32::blocked:a::f0 dst:"));
        assert_eq!(fields[9], "attr-fpmath:bf16 attr-post-ops:bias+add:ab+relu");
        assert_eq!(fields[10..], ["", "ip f32 mb2ic64oc32 fpmath=bf16 +bias+add:ab+relu", "1.250000"]);
        assert_eq!(
            tensors(&"matmul f32 2x3:3x4 strides=8x1::1x5".parse().unwrap()),
            "src:f32::blocked:ab:8x1:f0 \
            wei:f32::blocked:ab::f0 dst:f32::blocked:ba:1x5:f0"
        );
        assert_eq!(lines[1].split(',').count(), fields.len());
        assert_eq!(lines[2].split(',').count(), 5);
        assert_eq!(lines[3], "kiln_verbose,v1,notice,not used; but compiled,/a/file");
    }
}
