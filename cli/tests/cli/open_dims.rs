//! Dimensions that a file leaves open: how they are sized, and the table of them.

use std::fs;
use std::path::PathBuf;

use crate::onnx_file::open_network;
use crate::{Outcome, kiln, npy_bytes};

/// The number of i64 in ONNX.
const I64: u64 = 7;
const F32: u64 = 1;

struct File {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("open.onnx");
        fs::write(&path, bytes).unwrap();
        File { folder, path }
    }

    /// The sum of tokens and their mask.
    fn tokens(ids: &[&str], mask: &[&str], y: &[&str]) -> Self {
        Self::new(&open_network("Add", &[("ids", I64, ids), ("mask", I64, mask)], y))
    }

    fn images(dims: &[&str]) -> Self {
        Self::new(&open_network("Relu", &[("pixels", F32, dims)], dims))
    }

    fn call(&self, subcommand: &[&str], args: &[&str]) -> Outcome {
        let path = self.path.to_str().unwrap();
        kiln(&[&["model"], &subcommand[..1], &[path, "--quiet"], &subcommand[1..], args].concat())
    }

    fn run(&self, args: &[&str]) -> Outcome {
        self.call(&["run"], args)
    }

    /// The comments at the top of the imported function, which is parsed with them.
    fn table(&self, args: &[&str]) -> String {
        let text = self.call(&["dump", "--stage", "import"], args).exits(0).stdout;
        let table: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        let func = self.folder.path().join("func.txt");
        fs::write(&func, &text).unwrap();
        assert!(text.parse::<kiln_ir::Func>().is_ok(), "{text}");
        table.join("\n")
    }
}

#[test]
fn names_of_every_exporter_are_sized() {
    for [batch, seq] in [
        ["s0", "s77"],
        ["ids_dynamic_axes_1", "ids_dynamic_axes_2"],
        ["unk__123", "unk__124"],
        ["DynamicDimension.0", "DynamicDimension.1"],
        ["?", "?"],
        ["None", "None"],
        ["-1", "-1"],
        ["N", "L"],
        ["batch_size", "sequence_length"],
    ] {
        let file = File::tokens(&[batch, seq], &[batch, seq], &[batch, seq]);
        file.run(&["--batch", "3", "--seq", "5"]).exits(0).says("y: i64[3x5]");
        file.run(&[]).exits(0).says("y: i64[1x128]");
    }
    let file = File::tokens(&["s0", "s77"], &["s0", "s77"], &["s0", "s77"]);
    file.run(&["--dim", "s0=2", "--dim", "s77=4"]).exits(0).says("y: i64[2x4]");
    // What one input says of a name holds for the other.
    let ids = file.folder.path().join("ids.npy");
    fs::write(&ids, npy_bytes("<i8", "False", "(2, 6)", &[0.0; 24])).unwrap();
    let ids = format!("ids={}", ids.to_str().unwrap());
    file.run(&["--input", &ids]).exits(0).says("y: i64[2x6]");
    file.run(&["--shape", "mask=2x6"]).exits(0).says("y: i64[2x6]");
    file.run(&["--shape", "mask=2x6", "--seq", "7"]).refuses(&["--seq 7", "`s77`", "is 6"]);
    file.run(&["--shape", "mask=2x6", "--shape", "ids=2x7"]).refuses(&["[2, 6]", "s77=7 as in input `ids`"]);
}

#[test]
fn several_open_dimensions_are_sized_or_asked_for() {
    let file = File::images(&["batch", "3", "height", "width"]);
    file.run(&["--batch", "2"]).refuses(&[
        "dimension 2 of input `pixels` is `height`",
        "`--dim height=N` or `--shape pixels=AxBxC`",
        "pixels[0] `batch` = 2, pixels[2] `height` is open, pixels[3] `width` is open",
    ]);
    file.run(&["--batch", "2", "--dim", "height=5", "--dim", "width=7"]).exits(0).says("y: f32[2x3x5x7]");
    file.run(&["--shape", "pixels=2x3x5x7"]).exits(0).says("y: f32[2x3x5x7]");
    let nameless = File::images(&["s0", "3", "2*s1", "?"]);
    nameless.run(&[]).refuses(&["`--dim '2*s1=N'`"]);
    nameless.run(&["--dim", "2*s1=6"]).refuses(&["dimension 3", "`--dim '?=N'`"]);
    nameless.run(&["--dim", "s1=3", "--dim", "?=4"]).exits(0).says("y: f32[1x3x6x4]");
    let twice = File::tokens(&["batch", "encoder_seq"], &["batch", "decoder_seq"], &["batch", "y"]);
    twice.run(&["--seq", "5"]).exits(0).says("y: i64[1x5]");
    twice.run(&["--seq", "5", "--dim", "decoder_seq=1"]).exits(0).says("y: i64[1x5]");
    let past = File::tokens(&["batch", "sequence"], &["batch", "sequence//4"], &["batch", "sequence"]);
    past.run(&["--seq", "7"]).exits(0).says("y: i64[1x7]");
}

#[test]
fn a_table_says_what_is_open() {
    let file = File::tokens(&["s0", "s77"], &["batch", "s77//128"], &["s0", "2*s77"]);
    let expected = "\
# open    dimension  name      size  from
# input   ids[0]     s0           2  --dim s0
# input   ids[1]     s77        128  --seq by default: the second axis of tokens
# input   mask[0]    batch        2  --batch: by its name
# input   mask[1]    s77//128     1  an expression of open dimensions
# output  y[0]       s0           2  as ids[0]
# output  y[1]       2*s77      128  computed";
    assert_eq!(file.table(&["--batch", "2", "--dim", "s0=2"]), expected);
    let text = file.call(&["dump", "--stage", "all"], &[]).exits(0).stdout;
    assert!(text.starts_with("# stage: import\n# open    dimension"), "{text}");
    let shaped = File::tokens(&["s0", "s77"], &["s0", "s77"], &["s0", "s77"]).table(&["--shape", "mask=2x6"]);
    assert!(shaped.contains("ids[1]     s77      6  the same name in mask\n# input   mask[0]"), "{shaped}");
    assert!(shaped.contains("mask[1]    s77      6  --shape mask\n# output"), "{shaped}");
    // A name that would be a line of its own.
    let odd = File::images(&["batch\nfunc", "3"]).table(&[]);
    assert!(odd.contains("batch\\nfunc"), "{odd}");
    assert_eq!(File::images(&["2", "3"]).table(&[]), "");
}

/// A node that does not take a size, such as places of tokens that are fewer, says what the sizes are.
#[test]
fn an_error_of_a_node_says_the_sizes() {
    let file = File::tokens(&["s0", "s77"], &["s0", "7"], &["s0", "7"]);
    file.run(&[]).refuses(&["128 and 7", "`--seq`", "ids[1] = 128 (--seq by default: the second axis of tokens)"]);
    file.run(&["--seq", "7"]).exits(0);
}

/// Networks with several sets, each of sizes of its own, whose results are those of ONNX's reference implementation.
#[test]
fn sets_have_sizes_of_their_own() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/tests/fixtures");
    for mode in [&[][..], &["--interpret"]] {
        kiln(&[&["model", "test", fixtures, "--max-rel", "1e-5"], mode].concat()).exits(0).says("2 tests: 2 passed");
    }
}
