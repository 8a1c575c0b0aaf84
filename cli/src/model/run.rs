//! `kiln model run`: the outputs of a network.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use kiln_model::Tensor;

use super::compiled::CompileArgs;
use super::network::NetworkArgs;
use super::reference::CheckArgs;
use crate::Verdict;
use crate::error::Error;

/// Elements of an output that are shown.
const SHOWN: usize = 8;
/// Places of a row that are shown.
const TOP: usize = 5;
/// Rows whose greatest elements are shown.
const ROWS: usize = 4;

/// Run a network once and show its outputs, or write them
///
/// Built-in networks have pseudo-random weights: what they predict means nothing.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    compile: CompileArgs,
    #[command(flatten)]
    check: CheckArgs,
    /// Write each output to an .npy file of its name in DIR
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Runs.
pub fn run(args: &RunArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let mut loaded = args.network.load()?;
    let compiled = args.compile.compile(loaded.take()?)?;
    let network = &compiled.network;
    let results = network.run(&loaded.inputs)?;
    let runtime = &compiled.runtime;
    writeln!(out, "{} @{}, fpmath {}", loaded.name, runtime.target(), compiled.fpmath())?;
    let mut taken = HashSet::new();
    for ((name, ty), tensor) in network.outputs().zip(&results) {
        writeln!(out, "{name}: {ty}")?;
        match &args.output {
            Some(folder) => {
                fs::create_dir_all(folder).map_err(|e| Error::File(e).at(folder.display().to_string()))?;
                let path = folder.join(file_name(name, &mut taken));
                kiln_npy::write_tensor(&path, tensor)?;
                writeln!(out, "  {}", path.display())?;
            }
            None => summary(tensor, out)?,
        }
    }
    let check = args.check.check(&args.compile, &loaded, &compiled, &results)?;
    if let Some(check) = &check {
        check.print(out)?;
    }
    Ok(if check.is_none_or(|c| c.passed) { Verdict::Passed } else { Verdict::Failed })
}

/// A name of an output as one of a file: without folders, and not one of those `taken`.
fn file_name(name: &str, taken: &mut HashSet<String>) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let word: String = name.chars().map(|c| if is_kept(c) { c } else { '_' }).collect();
    let word = Some(word.trim_start_matches('.')).filter(|w| !w.is_empty()).unwrap_or("output");
    let numbered = (2..).map(|n| format!("{word}_{n}.npy"));
    let file = [format!("{word}.npy")].into_iter().chain(numbered).find(|file| !taken.contains(file));
    let file = file.expect("numbers do not end");
    taken.insert(file.clone());
    file
}

/// The first elements, and the places of the greatest in the first rows.
fn summary(tensor: &Tensor, out: &mut impl Write) -> Result<(), Error> {
    let values = tensor.to_f64();
    let shown: Vec<String> = values.iter().take(SHOWN).map(|v| format!("{v:.6}")).collect();
    let more = if values.len() > SHOWN { ", ..." } else { "" };
    writeln!(out, "  first      {}{more}", shown.join(", "))?;
    let row = tensor.ty().shape().last().map_or(0, |n| *n as usize);
    if tensor.ty().rank() < 2 || row < 2 {
        return Ok(());
    }
    for (at, row) in values.chunks(row).take(ROWS).enumerate() {
        let mut places: Vec<usize> = (0..row.len()).collect();
        places.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        let top: Vec<String> = places.iter().take(TOP).map(|i| format!("{i} ({:.4})", row[*i])).collect();
        writeln!(out, "  top of {at}   {}", top.join(", "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_files_in_their_folder() {
        let mut taken = HashSet::new();
        let mut file = |name| file_name(name, &mut taken);
        assert_eq!(file("last_hidden_state"), "last_hidden_state.npy");
        assert_eq!(file("../a/b:0"), "_a_b_0.npy");
        // No output takes another's place.
        assert_eq!([file("a/b"), file("a:b"), file("a_b")], ["a_b.npy", "a_b_2.npy", "a_b_3.npy"]);
        assert_eq!([file(".."), file("")], ["output.npy", "output_2.npy"]);
    }
}
