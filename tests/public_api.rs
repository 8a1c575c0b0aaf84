//! The names that a program that depends on one crate of Kiln can use and match.

use std::fs;
use std::path::{Path, PathBuf};

use kiln_jit::{
    CompileError, DType, Operand, Problem, ProblemError, Role, Runtime, RuntimeError, ScheduleError, Target,
    TargetError,
};

/// The errors and the descriptions that `kiln-jit` gives are matched without another crate.
#[test]
fn what_the_runtime_returns_can_be_matched() {
    let e = "matmul f32 2x3:3x4 stag=ab stag=ba".parse::<Problem>().unwrap_err();
    assert!(matches!(e, ProblemError::Repeated { name, .. } if name == "stag"));
    let problem: Problem = "matmul bf16 2x3:3x4 strides=8x1:: +bias".parse().unwrap();
    let [Operand { role: Role::Lhs, dtype: DType::Bf16, shape, layout, .. }, ..] = &problem.operands()[..] else {
        panic!("lhs is first")
    };
    assert_eq!((&shape[..], layout.gaps().unwrap().as_slice()), (&[2, 3][..], &[8, 1][..]));

    let runtime = Runtime::builder().threads(1).build().unwrap();
    let long: Problem = "matmul f32 2x100000000:100000000x2 stag=ba".parse().unwrap();
    let e = runtime.kernel(&"matmul f32 2x1:1x33554432".parse().unwrap()).unwrap_err();
    let RuntimeError::Compile(e) = e else { panic!("{e}") };
    let CompileError::Unsupported { target, what } = &*e else { panic!("{e}") };
    assert!(*target == Box::new(runtime.target().clone()) && what.contains("dst"), "{e}");
    assert!(runtime.kernel(&long).is_ok_and(|k| *k.problem() == long));
    let e = kiln_jit::PackageError::Schedule(ScheduleError { schedule: "x".into(), why: "y".into() });
    assert!(matches!(e, kiln_jit::PackageError::Schedule(ScheduleError { .. })));
    assert!(
        matches!("neoverse-v1+l2=1m+l2=2m".parse::<Target>(), Err(TargetError::Repeated { name, .. }) if name == "l2")
    );
    assert_eq!(format!("{:?}", Some("neoverse-v1-sve".parse::<Target>().unwrap())), "Some(neoverse-v1-sve)");
    // All of the crates below are there too.
    let _: kiln_jit::ir::Contraction = kiln_jit::ir::Contraction::of(&problem);
    let _: fn(&Problem, &Target, &kiln_jit::Options) -> Result<kiln_jit::compiler::Artifact, CompileError> =
        kiln_jit::compiler::compile;
}

/// A new reason to refuse something breaks nobody's build.
#[test]
fn public_error_enumerations_are_non_exhaustive() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut exhaustive) = (0, vec![]);
    for name in ["files", "ir", "compiler", "cache", "runtime", "npy", "onnx", "model"] {
        for file in sources(&root.join(name).join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            for at in (0..lines.len())
                .filter(|at| lines[*at].starts_with("#[derive(") && lines[*at].contains("thiserror::Error"))
            {
                // The attributes behind, and the item.
                let item = (at + 1..lines.len()).find(|i| !lines[*i].starts_with("#[")).unwrap();
                if lines[item].starts_with("pub enum ") {
                    found += 1;
                    if !lines[at..item].contains(&"#[non_exhaustive]") {
                        exhaustive.push(format!("{}:{}: {}", file.display(), item + 1, lines[item]));
                    }
                }
            }
        }
    }
    assert!(found >= 25, "{found}");
    assert!(exhaustive.is_empty(), "without #[non_exhaustive]:\n{}", exhaustive.join("\n"));
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => Some(path).filter(|p| p.extension().is_some_and(|e| e == "rs")).into_iter().collect(),
        })
        .collect()
}
