//! Mistakes of a new user: networks in place of problems, problems in place of networks, and files of other formats.

use std::fs;
use std::path::Path;

use crate::onnx_file::network;
use crate::{Outcome, SMALL, kiln};

/// Text that standard error has, whatever the exit code is.
#[track_caller]
fn tells(outcome: Outcome, text: &str) {
    assert!(outcome.code == Some(2) && outcome.stderr.contains(text), "`{text}` is not in {outcome:?}");
}

#[test]
fn networks_have_commands_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    fs::write(&model, network("Relu")).unwrap();
    let (model, folder) = (model.to_str().unwrap(), folder.path().to_str().unwrap());
    for (subcommand, command) in [
        ("run", "kiln model run"),
        ("dump", "kiln model dump"),
        ("bench", "kiln model bench"),
        ("verify", "kiln model bench --check"),
        ("warm", "kiln model bench"),
    ] {
        for network in [model, folder, "resnet50", "absent.onnx"] {
            let points_to = format!("`{command} {network}`");
            kiln(&[subcommand, network]).refuses(&["is a network, not a problem", &points_to]);
            kiln(&[subcommand, network, "--batch", "3"]).refuses(&[&points_to]);
        }
        kiln(&[subcommand, "--batch", model]).refuses(&["is a network"]);
    }
    kiln(&["pack", "build", "/tmp/x.pack", "bert"]).refuses(&["`kiln model pack -o FILE bert`"]);
    kiln(&["family", "bert"]).refuses(&["`bert` is a network"]);
    // Options of the other kind of command.
    tells(kiln(&["bench", "resnet50", "--check"]), "`resnet50` is a network: see `kiln model bench --help`");
    tells(kiln(&["run", model, "--seq", "3"]), "see `kiln model run --help`");
    kiln(&["model", "run", SMALL]).refuses(&["is a problem, not a network", "`kiln run`"]);
    tells(kiln(&["model", "dump", "matmul", "f32", "2x3:3x4"]), "`matmul` begins a problem: see `kiln dump --help`");
    let outcome = kiln(&["run", SMALL, "--sed", "3"]).exits(2);
    assert!(!outcome.stderr.contains("kiln model"), "{outcome:?}");
}

#[test]
fn other_formats_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let array = file("x.npy", b"\x93NUMPY\x01\x00");
    let weights = file("model.pt", b"PK\x03\x04\x00\x00");
    let list = file("list.txt", b"matmul f32 2x3:3x4\n");
    let unknown = file("bytes", &[0xff, 0xfe, 0]);
    let pack = folder.path().join("x.pack").to_str().unwrap().to_owned();
    kiln(&["pack", "build", &pack, SMALL, "--target", "neoverse-n1"]).exits(0);

    for (path, kind) in
        [(&array, "a NumPy array"), (&weights, "a zip archive, as PyTorch"), (&pack, "a pack of kernels")]
    {
        kiln(&["run", path]).refuses(&[path, kind, "expected a problem"]);
        kiln(&["verify", "--batch", path]).refuses(&[path, kind, "one problem a line"]);
        kiln(&["model", "run", path]).refuses(&[path, kind, "expected an ONNX network"]);
        kiln(&["model", "test", path]).refuses(&[path, kind, "a folder with tests"]);
    }
    kiln(&["run", &list]).refuses(&["is a text file", &format!("`--batch {list}`")]);
    kiln(&["model", "bench", &list]).refuses(&["is a text file", "expected an ONNX network"]);
    kiln(&["model", "bench", &unknown]).refuses(&["bytes: this is no ONNX file"]);
    kiln(&["run", SMALL, "--lhs", &list]).refuses(&["not an .npy file"]);
    kiln(&["run", folder.path().to_str().unwrap()]).refuses(&["is a folder"]);
    kiln(&["dump", "--batch", folder.path().to_str().unwrap()]).refuses(&["is a folder"]);
    let empty = tempfile::tempdir().unwrap();
    kiln(&["model", "run", empty.path().to_str().unwrap()]).refuses(&["the folder has no model.onnx"]);
    kiln(&["model", "test", empty.path().to_str().unwrap()]).refuses(&["no folder in it"]);
    kiln(&["model", "test", "absent"]).refuses(&["absent: No such file"]);
    // Once, and no more often, a file is named.
    let absent = kiln(&["model", "run", "absent.onnx"]).exits(2);
    assert_eq!(absent.stderr.matches("absent.onnx").count(), 1, "{absent:?}");
}

#[test]
fn arguments_in_the_wrong_order() {
    kiln(&["pack", "build", SMALL]).refuses(&["is a problem", "the path of the pack"]);
    kiln(&["pack", "build", SMALL, "x.pack"]).refuses(&["is a problem", "the path of the pack"]);
    assert!(!Path::new(SMALL).exists());
    kiln(&["family"]).refuses(&["`?`"]);
}
