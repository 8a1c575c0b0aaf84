//! Prints the C API's header.

use std::io::Write;
use std::path::Path;

use cbindgen::{Builder, Config};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let capi = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let config = Config::from_file(capi.join("cbindgen.toml"))?;
    // By its sources instead of by its crate: cargo is not asked about dependencies, which are not C's business.
    let bindings = Builder::new().with_config(config).with_src(capi.join("src/lib.rs")).generate()?;
    let mut text = vec![];
    bindings.write(&mut text);
    Ok(std::io::stdout().write_all(&text)?)
}
