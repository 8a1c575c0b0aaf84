//! Numbers of threads: `--threads`, the variables that are its default, and the processors that run them.

use kiln_jit::{MAX_THREADS, RuntimeError, environment_threads};

/// The threads of kernels.
#[derive(Debug, clap::Args)]
pub struct ThreadsArgs {
    /// Threads that large problems are divided among [default: KILN_NUM_THREADS, OMP_NUM_THREADS or RAYON_NUM_THREADS, else 1]
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<usize>,
}

impl ThreadsArgs {
    /// The option as it was given.
    pub fn asked(&self) -> Option<usize> {
        self.threads
    }

    /// The number of threads.
    pub fn number(&self) -> Result<usize, RuntimeError> {
        or_environment(self.threads)
    }
}

/// The threads of an option, or else those that the environment says, or else one.
pub fn or_environment(asked: Option<usize>) -> Result<usize, RuntimeError> {
    asked.map_or_else(|| Ok(environment_threads()?.unwrap_or(1)), Ok)
}

/// The number of threads, of so many, that compute at the same time: no more than there are processors that the process may use.
pub fn at_once(threads: usize) -> usize {
    threads.min(std::thread::available_parallelism().map_or(1, usize::from))
}

/// Parses the value of `--threads`.
pub fn threads(text: &str) -> Result<usize, String> {
    number(text).ok_or(format!("expected a number of threads from 1 to {MAX_THREADS}"))
}

/// Parses the value of `--streams`.
pub fn streams(text: &str) -> Result<usize, String> {
    number(text).ok_or(format!("expected a number of streams from 1 to {MAX_THREADS}"))
}

fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|n| (1..=MAX_THREADS).contains(n))
}

/// Several numbers of threads, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts(pub Vec<usize>);

/// Parses numbers of threads with commas between them.
pub fn counts(text: &str) -> Result<Counts, String> {
    let mut all = vec![];
    for part in text.split(',') {
        let expected = || format!("expected numbers from 1 to {MAX_THREADS} with commas between them, such as 1,2,4");
        let n = number(part.trim()).ok_or_else(expected)?;
        if !all.contains(&n) {
            all.push(n);
        }
    }
    Ok(Counts(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_may_have_blanks_and_name_a_number_once() {
        for (text, all) in [("1", &[1][..]), ("64,1,16", &[64, 1, 16]), ("2, 4 ,2", &[2, 4]), ("1,1,2,2", &[1, 2])] {
            assert_eq!(counts(text), Ok(Counts(all.to_vec())), "{text}");
        }
        for text in ["", "1,", "1,,2", "0", "1025", "two", "-1", "1;2"] {
            assert!(counts(text).unwrap_err().contains("numbers from 1 to 1024 with commas between them"), "{text}");
        }
    }

    #[test]
    fn no_more_threads_compute_at_once_than_there_are_processors() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        assert_eq!((at_once(1), at_once(usize::MAX)), (1, processors));
    }
}
