//! Artifacts: compiled code with everything known about it.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use kiln_ir::{Contraction, LoopNest, Operand, Problem};

use crate::choose::{Options, predict};
use crate::emit::Function;
use crate::emit::clif::driver;
use crate::link::Symbol;
use crate::listing;
use crate::lower::lower;
use crate::microkernel::MicroKernel;
use crate::microkernel::check::Tally;
use crate::packed::PackedLayout;
use crate::schedule::Choice;
use crate::target::Target;

/// Machine code for one problem and target, independent of its position, with every stage that led to it.
///
/// The image's first byte is the entry, a C function
/// `(arguments: *const *mut u8, scratch: *mut u8, begin: u64, end: u64)`: one pointer per [`arguments`](Self::arguments)
/// in order, [`scratch_bytes`](Self::scratch_bytes) of memory aligned to 64, and the range of [`tasks`](Self::tasks) to
/// execute.
#[derive(Clone, Debug)]
pub struct Artifact {
    problem: Problem,
    target: Target,
    options: Options,
    way: usize,
    contraction: Contraction,
    choice: Choice,
    nest: LoopNest,
    kernels: Vec<MicroKernel>,
    calls: Vec<Option<usize>>,
    layout: Option<PackedLayout>,
    notes: Vec<String>,
    checked: Option<Tally>,
    symbols: Vec<Symbol>,
    image: Vec<u8>,
}

/// The results of the stages for a problem.
pub(crate) struct Parts {
    pub options: Options,
    pub(crate) way: usize,
    pub(crate) contraction: Contraction,
    pub choice: Choice,
    pub nest: LoopNest,
    pub kernels: Vec<MicroKernel>,
    pub calls: Vec<Option<usize>>,
    pub layout: Option<PackedLayout>,
    pub notes: Vec<String>,
    pub checked: Option<Tally>,
}

/// A stage that can be dumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The canonical string and the arguments.
    Problem,
    /// The schedule, its prediction and what it was weighed against.
    Schedule,
    /// The nest after every rewrite.
    Lowering,
    /// The nest that is emitted.
    Nest,
    /// The vector programs.
    MicroKernel,
    /// Assembler source.
    Asm,
}

impl Stage {
    /// The stages in order, with their names.
    pub const ALL: &'static [(&'static str, Stage)] = &[
        ("problem", Stage::Problem),
        ("schedule", Stage::Schedule),
        ("lowering", Stage::Lowering),
        ("nest", Stage::Nest),
        ("microkernel", Stage::MicroKernel),
        ("asm", Stage::Asm),
    ];
}

/// A word that names no stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown stage `{0}`: expected problem, schedule, lowering, nest, microkernel or asm")]
pub struct UnknownStage(pub String);

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(s: &str) -> Result<Self, UnknownStage> {
        Stage::ALL.iter().find(|(n, _)| *n == s).map(|(_, v)| *v).ok_or_else(|| UnknownStage(s.into()))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Stage::ALL.iter().find(|(_, v)| v == self).map_or("", |(n, _)| n))
    }
}

impl Artifact {
    pub(crate) fn new(
        problem: Problem,
        target: Target,
        parts: Parts,
        functions: Vec<Function>,
        image: Vec<u8>,
        ranges: Vec<Range<usize>>,
    ) -> Self {
        let symbols = functions
            .into_iter()
            .zip(ranges)
            .map(|(f, range)| Symbol { name: f.name, range, code_len: f.code_len, notes: f.notes })
            .collect();
        let Parts { options, way, contraction, choice, nest, kernels, calls, layout, notes, checked } = parts;
        Self {
            problem,
            target,
            options,
            way,
            contraction,
            choice,
            nest,
            kernels,
            calls,
            layout,
            notes,
            checked,
            symbols,
            image,
        }
    }

    /// The index of its contraction in [`Contraction::ways`].
    pub fn way(&self) -> usize {
        self.way
    }

    /// The contraction that the problem is computed as.
    pub fn contraction(&self) -> &Contraction {
        &self.contraction
    }

    /// The layout in which the kernel expects its right operand packed; `None` if it reads it where it is.
    pub fn packed_layout(&self) -> Option<&PackedLayout> {
        self.layout.as_ref()
    }

    /// Remarks for people: paths that the target or the shape rules out, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The micro-kernels that were [proved](crate::microkernel::check), counted by kind: all of them. `None` without the feature
    /// `checked`.
    pub fn checked(&self) -> Option<&Tally> {
        self.checked.as_ref()
    }

    /// The problem that it computes.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The target that it is compiled for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The schedule and why.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The nest that the driver executes.
    pub fn nest(&self) -> &LoopNest {
        &self.nest
    }

    /// The vector programs.
    pub fn micro_kernels(&self) -> &[MicroKernel] {
        &self.kernels
    }

    /// For each tile and copy of the nest, in the order they are written down, the index of the micro-kernel it calls; `None`
    /// for a copy that the driver makes itself.
    pub fn calls(&self) -> &[Option<usize>] {
        &self.calls
    }

    /// The functions in the image, the entry first.
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// Position-independent machine code; executable where the target says, aligned to 64 bytes.
    pub fn image(&self) -> &[u8] {
        &self.image
    }

    /// The tensors it is called with, in order.
    pub fn arguments(&self) -> Vec<Operand> {
        self.problem.operands()
    }

    /// Temporary memory each concurrent call needs, in bytes.
    pub fn scratch_bytes(&self) -> u64 {
        driver::scratch_layout(&self.nest).1
    }

    /// Temporary memory of a call that all its threads share, in bytes. Its address is at the start of each thread's scratch memory.
    pub fn shared_bytes(&self) -> u64 {
        driver::shared_layout(&self.nest).1
    }

    fn tasks_text(&self) -> String {
        match self.first_tasks() {
            0 => format!("tasks     {}\n", self.tasks()),
            first => format!("tasks     {first}, then {}\n", self.tasks() - first),
        }
    }

    fn shared_text(&self) -> String {
        match self.shared_bytes() {
            0 => String::new(),
            bytes => format!("shared    {bytes} bytes of all threads\n"),
        }
    }

    /// Those of the [tasks](Self::tasks) that are done before all others begin: they fill the [shared memory](Self::shared_bytes).
    pub fn first_tasks(&self) -> u64 {
        match &self.nest.phase_tasks()[..] {
            [first, _] => *first,
            _ => 0,
        }
    }

    /// Independent tasks; any partition of them over threads gives the same bits.
    pub fn tasks(&self) -> u64 {
        self.nest.tasks()
    }

    /// Assembler source: valid for GNU as and llvm-mc, and assembles to the image. With `bytes`, each line shows them.
    pub fn listing(&self, bytes: bool) -> String {
        let schedule = self.choice.schedule.to_string().replace("; ", "\n");
        let (problem, target) = (self.problem.to_string(), self.target.to_string());
        let header = [("problem", &problem), ("target", &target), ("schedule", &schedule)];
        listing::listing(
            &header.map(|(name, text)| (name, text.as_str())),
            &self.target,
            &self.image,
            &self.symbols,
            bytes,
        )
    }

    /// A stage as text.
    pub fn dump(&self, stage: Stage) -> String {
        match stage {
            Stage::Problem => {
                let mut out = format!("{} @{}\n", self.problem, self.target);
                for o in self.arguments() {
                    let shape: Vec<String> = o.shape.iter().map(u64::to_string).collect();
                    let tag = o.layout.tag();
                    let order = match o.layout.gaps() {
                        Some(strides) => format!(" strides {strides}"),
                        None if tag.is_plain() => String::new(),
                        None => format!(" {tag}"),
                    };
                    out += &format!("argument  {}: {}[{}]{order}\n", o.name, o.dtype, shape.join("x"));
                }
                if let Some(layout) = &self.layout {
                    out += &format!("packed    rhs, {} bytes\n", layout.bytes());
                }
                out += &self.notes.iter().map(|n| format!("note      {n}\n")).collect::<String>();
                out + &format!("scratch   {} bytes\n{}{}", self.scratch_bytes(), self.shared_text(), self.tasks_text())
            }
            Stage::Schedule => {
                let scratch = self.scratch_bytes();
                let packed = self.with_packed_weights();
                let (tasks, shared) = (self.tasks_text(), self.shared_text());
                format!("{}{packed}{tasks}scratch   {scratch} bytes a thread\n{shared}", self.choice)
            }
            Stage::Lowering => self.lowering(),
            Stage::Nest => self.nest.to_string(),
            Stage::MicroKernel => {
                self.kernels.iter().map(|k| format!("{k}; {}\n", k.counts())).collect::<Vec<_>>().join("\n")
            }
            Stage::Asm => self.listing(false),
        }
    }

    /// The predicted cycles with weights that are packed before calls and without. Empty for a schedule that was asked for, since a
    /// comparison would be of two schedules.
    fn with_packed_weights(&self) -> String {
        if self.options.schedule.is_some() || self.options.weights_layout.is_some() {
            return String::new();
        }
        let own = self.choice.prediction.cycles;
        let Some((other, other_packs)) = predict(&self.problem, &self.target, !self.options.constant_weights) else {
            return String::new();
        };
        let (packs, with, without) = match self.options.constant_weights {
            true => (self.layout.is_some(), own, other),
            false => (other_packs, other, own),
        };
        match packs {
            true => format!(
                "packed    {with:.0} cycles where weights are constant and packed before calls, {without:.0} where not: {:.2} times\n",
                without / with
            ),
            false => "packed    no difference: constant weights would be read where they are, too\n".into(),
        }
    }

    fn lowering(&self) -> String {
        let Some(unit) = self.target.unit(self.choice.schedule.isa) else { return String::new() };
        let (mut out, mut before) = (String::new(), String::new());
        let lowered = lower(&self.problem, &self.contraction, &self.choice.schedule, unit, |name, nest| {
            let text = nest.to_string();
            out += &if text == before {
                format!("after {name}: (unchanged)\n\n")
            } else {
                format!("after {name}:\n{text}\n")
            };
            before = text;
        });
        debug_assert!(lowered.is_ok(), "the artifact was lowered by the same steps");
        out
    }
}
