//! The crate's interface is what `api.txt` says: every name it exports, with fields, variants, methods and implementations.
//!
//! It is read from the sources, of this crate and of those that it takes names from, so that the list needs no other toolchain. What a
//! macro makes, such as the conversions to `Input`, is not seen. `KILN_BLESS=1 cargo test --release -p kiln --test api`, or
//! `cargo xtask bless`, writes the list anew; a change of it is a change for users, which belongs in CHANGELOG.md.

mod describe;
mod sources;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use sources::Sources;

const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/api.txt");

#[test]
fn the_interface_is_what_is_written_down() {
    let mut sources = Sources::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let exports = sources.exports();
    let mut text = String::new();
    for export in &exports {
        let feature = export.feature.as_ref().map(|feature| format!(" (feature `{feature}`)")).unwrap_or_default();
        let _ = writeln!(text, "# {}{feature}\n{}", export.name, describe::text(&mut sources, &export.definition));
    }
    // What the list would lack if it were not looked for any more.
    for expected in FOUND {
        assert!(text.contains(expected), "{expected:?}");
    }
    if std::env::var_os("KILN_BLESS").is_some() {
        fs::write(LIST, text).unwrap();
        return;
    }
    let written = fs::read_to_string(LIST).unwrap_or_else(|e| panic!("{LIST}: {e}"));
    if let Some(at) =
        (0..).zip(text.lines().zip(written.lines())).find_map(|(at, (new, old))| (new != old).then_some(at))
    {
        let line = |text: &str| text.lines().nth(at).unwrap_or_default().to_owned();
        let of = |text: &str| {
            text.lines().take(at + 1).filter(|l| l.starts_with("# ")).last().unwrap_or_default().to_owned()
        };
        panic!("api.txt, line {}, at `{}`:\n- {}\n+ {}\n{HOW}", at + 1, of(&written), line(&written), line(&text));
    }
    let (new, old) = (text.lines().count(), written.lines().count());
    assert_eq!(new, old, "api.txt has {old} lines, the interface {new}; {HOW}");
}

const HOW: &str = "if this is meant, `KILN_BLESS=1 cargo test --release -p kiln --test api` writes the list";

/// A name of each module, and a method, a field, an implementation, a variant and an attribute.
const FOUND: [&str; 9] = [
    "# kiln::Runtime\n",
    "# kiln::models::Network (feature `models`)\n",
    "# kiln::onnx::Model (feature `onnx`)\n",
    "# kiln::views::matmul (feature `ndarray`)\n",
    "pub fn kernel(&self, problem: &Problem) -> Result<Arc<Kernel>, RuntimeError>",
    "pub constant_weights: bool",
    "impl FromStr for Problem",
    "    BelowBound {",
    "#[non_exhaustive]\npub enum RuntimeError",
];
