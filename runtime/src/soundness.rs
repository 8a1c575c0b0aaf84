//! Things that safe code cannot do. Each text is compiled twice: as it is, which must fail for want of `unsafe`, and with `unsafe` around the
//! one call, which must not; so it fails for no other reason.

macro_rules! needs_unsafe {
    ($(#[doc = $why:literal])* $name:ident { $before:literal, $call:literal, $after:literal }) => {
        $(#[doc = $why])*
        #[doc = concat!(
            "```compile_fail,E0133\n", "use kiln_jit::*;\n", $before, "\nlet it = ", $call, ";\n", $after, "\n```\n\n",
            "```no_run\n", "use kiln_jit::*;\n", $before, "\nlet it = unsafe { ", $call, " };\n", $after, "\n```"
        )]
        struct $name;
    };
}

needs_unsafe! {
    /// From bytes to their execution: a package can be put together from any, and written to a file that is a pack.
    ExecutingForeignBytes {
        "fn execute(facts: kiln_compiler::package::Facts, bytes: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
             let (problem, target) = (facts.problem.clone(), facts.target.clone());
             pack::write(\"foreign.pack\", &target, [&Package::new(facts, bytes)?])?;",
        "Runtime::builder().pack(\"foreign.pack\")",
        "    let kernel = it.build()?.kernel(&problem)?;
             Ok(kernel.run(Args::new(&[0.0f32; 1], &[0.0f32; 1], &mut [0.0f32; 1]))?)
         }"
    }
}

needs_unsafe! {
    /// A directory that the program names.
    UsingACacheDirectory {
        "fn with(folder: &std::path::Path) -> Result<Runtime, RuntimeError> {",
        "Runtime::builder().cache_dir(folder)",
        "    it.build()
         }"
    }
}

needs_unsafe! {
    /// A file that others may write to or cut off, as memory that does not change.
    MappingWeights {
        "fn map(file: &std::path::Path) -> Result<WeightsPack, PackError> {",
        "WeightsPack::map(file)",
        "    it
         }"
    }
}

needs_unsafe! {
    /// Machine code with pointers that nobody has checked.
    CallingWithoutChecks {
        "fn call(kernel: &Kernel, pointers: &[*mut u8]) -> Result<(), RuntimeError> {",
        "kernel.run_unchecked(pointers)",
        "    it
         }"
    }
}

needs_unsafe! {
    /// The code itself.
    CallingTheEntry {
        "fn call(kernel: &Kernel, pointers: &[*mut u8]) {",
        "kernel.entry()(pointers.as_ptr(), std::ptr::null_mut(), 0, 1)",
        "    it
         }"
    }
}

/// Executable memory is nothing that other crates can fill.
///
/// ```compile_fail,E0603
/// use kiln_jit::code_memory::LoadedCode;
/// ```
struct LoadingCode;

/// Elements of another type, which would be read and written as if they were f32: the first text fails. The second has a trait of the
/// same items that anybody may implement, and does not, so the first fails for no other reason.
///
/// ```compile_fail,E0277
/// use kiln_jit::{Input, Output, DType, views::Element};
/// struct Byte(u8);
/// impl Element for Byte {
///     const DTYPE: DType = DType::F32;
///     fn input(_: &[Self]) -> Input<'_> { unimplemented!() }
///     fn output(_: &mut [Self]) -> Output<'_> { unimplemented!() }
/// }
/// ```
///
/// ```
/// use kiln_jit::{Input, Output, DType, views::Element};
/// struct Byte(u8);
/// trait Like: Sized {
///     const DTYPE: DType;
///     fn input(_: &[Self]) -> Input<'_>;
///     fn output(_: &mut [Self]) -> Output<'_>;
/// }
/// impl Like for Byte {
///     const DTYPE: DType = <f32 as Element>::DTYPE;
///     fn input(_: &[Self]) -> Input<'_> { unimplemented!() }
///     fn output(_: &mut [Self]) -> Output<'_> { unimplemented!() }
/// }
/// ```
#[cfg(feature = "ndarray")]
struct ElementsOfOtherTypes;
