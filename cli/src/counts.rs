//! Numbers of options that are neither threads nor streams, with errors that say what is expected.

use std::ops::RangeInclusive;

/// Runs that somebody may wait for.
const RUNS: u64 = 1_000_000_000;
/// The milliseconds of a day.
const DAY: u64 = 24 * 60 * 60 * 1000;

fn number(text: &str, what: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let (least, most) = (range.start(), range.end());
    text.parse().ok().filter(|n| range.contains(n)).ok_or(format!("expected {what} from {least} to {most}"))
}

/// Parses the number of measured runs.
pub fn runs(text: &str) -> Result<u64, String> {
    number(text, "a number of runs", 1..=RUNS)
}

/// Parses the number of runs before the measured ones.
pub fn runs_before(text: &str) -> Result<u64, String> {
    number(text, "a number of runs", 0..=RUNS)
}

/// Parses a time to measure for.
pub fn milliseconds(text: &str) -> Result<u64, String> {
    number(text, "a number of milliseconds", 0..=DAY).map_err(|expected| format!("{expected}, which is a day"))
}

/// Parses a size, or another number of things that there is at least one of.
pub fn positive(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or("expected a whole number that is at least 1".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_their_ranges() {
        assert_eq!(
            (runs("1"), runs_before("0"), milliseconds("86400000"), positive("7")),
            (Ok(1), Ok(0), Ok(DAY), Ok(7))
        );
        let huge = u64::MAX.to_string();
        for text in ["-1", "", "many", "1.5", "99999999999999999999"] {
            for parse in [runs, runs_before, milliseconds, positive] {
                assert!(parse(text).unwrap_err().starts_with("expected a "), "{text}");
            }
        }
        assert!(runs("0").is_err() && positive("0").is_err());
        for parse in [runs, runs_before] {
            assert_eq!(parse(&huge).unwrap_err().split(" from ").next(), Some("expected a number of runs"));
        }
        assert_eq!(
            milliseconds(&huge).unwrap_err(),
            "expected a number of milliseconds from 0 to 86400000, which is a day"
        );
    }
}
