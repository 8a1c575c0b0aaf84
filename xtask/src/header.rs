//! `cargo xtask header`: the C API's header, made from the sources of `capi`.

use std::fs;
use std::path::PathBuf;

use crate::process::{Result, cargo, root};

/// Arguments.
#[derive(clap::Args)]
pub struct HeaderArgs {
    /// Fails if the header is not what would be written, and shows where they part.
    #[arg(long)]
    check: bool,
}

/// Writes the header, or compares with it.
pub fn run(args: &HeaderArgs) -> Result {
    if args.check { check() } else { Ok(fs::write(path(), generate()?)?) }
}

/// Fails if the header is not what [`run`] would write.
pub fn check() -> Result {
    let path = path();
    let present = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    match difference(&present, &generate()?) {
        None => Ok(()),
        Some(where_) => Err(format!("capi/kiln.h is not current: run `cargo xtask header`\n{where_}").into()),
    }
}

fn path() -> PathBuf {
    root().join("capi/kiln.h")
}

fn generate() -> Result<String> {
    let mut generator = cargo("run --locked --quiet --manifest-path capi/header/Cargo.toml");
    // Its own workspace would have a folder of its own for what is built.
    if std::env::var_os("CARGO_TARGET_DIR").is_none() {
        generator.env("CARGO_TARGET_DIR", root().join("target"));
    }
    let output = generator.output().map_err(|e| format!("{generator:?}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{generator:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The first line that differs, in both.
fn difference(present: &str, expected: &str) -> Option<String> {
    if present == expected {
        return None;
    }
    let (mut old, mut new) = (present.lines(), expected.lines());
    (1..).find_map(|number| match (old.next(), new.next()) {
        (None, None) => Some("only line ends differ".into()),
        (old, new) if old == new => None,
        (old, new) => {
            Some(format!("line {number}:\n- {}\n+ {}", old.unwrap_or("(the end)"), new.unwrap_or("(the end)")))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn shows_where_texts_part() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(difference("a\nb\n", "a\nc\n").unwrap(), "line 2:\n- b\n+ c");
        assert_eq!(difference("a\n", "a\nc\n").unwrap(), "line 2:\n- (the end)\n+ c");
        assert_eq!(difference("a", "a\n").unwrap(), "only line ends differ");
    }
}
