//! The code of a problem for a machine that is not this one, or is nowhere yet: every stage, on any host.

use kiln_compiler::{Options, Stage, Target, compile};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // SVE of 512 bits with BF16 instructions and a second-level cache of 4 MiB, without NEON kernels.
    let target: Target = "sve512+bf16+l2=4m-neon".parse()?;
    let artifact = compile(&"matmul f32 6x8:8x32 +relu".parse()?, &target, &Options::default())?;
    for &(name, stage) in Stage::ALL {
        println!("== {name}\n{}", artifact.dump(stage));
    }
    Ok(())
}
