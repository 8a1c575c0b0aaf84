//! `kiln model run`: prints or writes the outputs of a network.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;

use kiln_model::Tensor;

use super::compiled::CompileArgs;
use super::network::NetworkArgs;
use super::reference::CheckArgs;
use crate::error::Error;
use crate::output::OutputFolder;
use crate::verdict::Verdict;

/// The number of elements of an output that are printed.
const SHOWN: usize = 8;
/// The number of places printed for a row.
const TOP: usize = 5;
/// The number of rows whose greatest elements are printed.
const ROWS: usize = 4;

/// Run a network once, and print its outputs or write them to files
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
    /// Write each output to DIR, as an .npy file with the output's name
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Runs the network.
pub fn run(args: &RunArgs, out: &mut impl Write) -> Result<Verdict, Error> {
    let output = args.output.as_deref().map(OutputFolder::check).transpose()?;
    let mut loaded = args.network.load()?;
    let compiled = args.compile.compile(loaded.take()?)?;
    let network = &compiled.network;
    let reference = args.check.reference(&loaded, &compiled)?;
    let results = network.run(&loaded.inputs)?;
    let runtime = &compiled.runtime;
    writeln!(out, "{} @{}, fpmath {}", loaded.name, runtime.target(), compiled.fpmath())?;
    let mut taken = HashSet::new();
    for ((name, ty), tensor) in network.outputs().zip(&results) {
        writeln!(out, "{name}: {ty}")?;
        match &output {
            Some(folder) => {
                let file = folder.file(&file_name(name, &mut taken))?;
                let path = file.path().display().to_string();
                file.write(|mut out| kiln_npy::write_tensor_to(&mut out, tensor))?;
                writeln!(out, "  {path}")?;
            }
            None => summary(tensor, out)?,
        }
    }
    let check = args.check.check(reference, &args.compile, &loaded, &compiled, &results)?;
    if let Some(check) = &check {
        check.print(out)?;
    }
    Ok(if check.is_none_or(|c| c.passed) { Verdict::Passed } else { Verdict::Failed })
}

/// Characters of an output's name that are in the name of its file: exporters make names of any length, and file systems have a limit.
const LONGEST: usize = 200;

/// The name of the file for an output: without folders in it, and different from those `taken`.
fn file_name(name: &str, taken: &mut HashSet<String>) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let word: String = name.chars().map(|c| if is_kept(c) { c } else { '_' }).take(LONGEST).collect();
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
        let long = "BiasAdd;".repeat(100);
        let files = [file(&long), file(&format!("{long}0"))];
        assert!(files[0] != files[1] && files.iter().all(|file| file.len() < 220), "{files:?}");
    }
}
