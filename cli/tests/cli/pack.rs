//! `kiln pack`, `kiln warm` and `kiln family`.

use std::path::Path;

use crate::{FOREIGN, kiln};

const LIST: &str = "# two\nip f32 mb2ic16oc24 +bias\nmatmul f32 5x6:6x7\n";

/// A list of problems in a folder.
fn list(folder: &Path) -> String {
    let path = folder.join("list.txt");
    std::fs::write(&path, LIST).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn packs_are_built_for_any_target_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (batch, file) = (list(folder.path()), folder.path().join("x.pack"));
    let file = file.to_str().unwrap();
    for target in ["neoverse-n1", "sve512+bf16", "x86-64-v3"] {
        kiln(&["pack", "build", file, "--batch", &batch, "--target", target, "--packed"])
            .exits(0)
            .says(&format!("2 kernels for {target}"));
        let first = std::fs::read(file).unwrap();
        kiln(&["pack", "build", file, "--batch", &batch, "--target", target, "--packed"]).exits(0);
        assert_eq!(std::fs::read(file).unwrap(), first, "the same bytes again");
        let listed = kiln(&["pack", "list", file]).exits(0).says("ip f32 mb2ic16oc24 +bias").says("matmul f32 5x6:6x7");
        assert!(listed.stdout.starts_with(&format!("target {target}\n")), "{listed:?}");
    }
    let mut bytes = std::fs::read(file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(file, bytes).unwrap();
    kiln(&["pack", "list", file]).refuses(&["x.pack", "checksum"]);
    kiln(&["pack", "list", &batch]).refuses(&["list.txt", "is a text file", "expected a pack"]);
    kiln(&["pack", "list", folder.path().to_str().unwrap()]).refuses(&["is a folder"]);
    kiln(&["pack", "build", "/nonexistent/x.pack", "matmul f32 1x1:1x1"]).refuses(&["/nonexistent/x.pack"]);
}

#[test]
fn kernels_are_warmed_by_compiling_and_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let (batch, file, cache) = (list(folder.path()), folder.path().join("x.pack"), folder.path().join("cache"));
    let (file, cache) = (file.to_str().unwrap(), cache.to_str().unwrap());
    let warmed = kiln(&["warm", "--batch", &batch, "--threads", "2", "--progress"]).exits(0);
    assert!(warmed.stderr.contains("2/2 ") && warmed.stdout.contains(" 0 of them not compiled"), "{warmed:?}");
    kiln(&["pack", "build", file, "--batch", &batch]).exits(0);
    kiln(&["warm", "--batch", &batch, "--pack", file])
        .exits(0)
        .says(" 2 of them not compiled")
        .says("million by two threads");
    for unpacked in [0, 2] {
        let warmed = kiln(&["warm", "--batch", &batch, "--cache-dir", cache, "--json"]).exits(0);
        let json: serde_json::Value = serde_json::from_str(&warmed.stdout).unwrap();
        assert_eq!((json["problems"].as_u64(), json["unpacked"].as_u64()), (Some(2), Some(unpacked)));
        assert!(json["warm_ns"].as_f64().unwrap() > 0.0 && json["hit_ns"].as_f64().unwrap() > 0.0);
    }
    kiln(&["pack", "build", file, "--batch", &batch, "--target", FOREIGN]).exits(0);
    kiln(&["warm", "--batch", &batch, "--pack", file]).refuses(&["x.pack", FOREIGN, "--target"]);
}

#[test]
fn families_are_measured() {
    let measured = ["family", "ip f32 mb?ic16oc24 +bias", "--packed", "--values", "3,8", "--min-ms", "5"];
    kiln(&measured).exits(0).says("general code: tiles").says("\n       3 ").says("\n       8 ");
    kiln(&["family", "ip f32 mb2ic16oc24"]).refuses(&["expected a `?`"]);
    let outcome = kiln(&["family", "ip f32 mb?ic16oc24", "--values", "3,0"]).exits(2);
    assert!(outcome.stdout.is_empty() && outcome.stderr.contains("--values"), "{outcome:?}");
}
