//! The code of a problem for a machine that is not this one: every stage, on any host.

use kiln_compiler::{Options, Stage, Target, compile};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target: Target = "neoverse-v1".parse()?;
    let artifact = compile(&"matmul f32 6x8:8x32 +relu".parse()?, &target, &Options::default())?;
    for &(name, stage) in Stage::ALL {
        println!("== {name}\n{}", artifact.dump(stage));
    }
    Ok(())
}
