//! Calls of one network side by side, timed.
//!
//! Each stream is a thread that calls again and again. All begin at once, after calls that are not measured, and each goes on until
//! all have measured enough, so that each call runs beside calls of all other streams.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kiln_model::Tensor;
use kiln_runtime::RuntimeError;

use crate::error::Error;
use crate::timing::Span;

/// The fewest calls of each stream that percentiles are taken of.
const LEAST_CALLS: usize = 3;

/// How many streams call, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Calls side by side.
    pub streams: usize,
    /// Calls of each stream before the measured ones.
    pub warm: u64,
    /// The time to measure for.
    pub least: Duration,
    /// The calls of each stream, in place of the time.
    pub repeat: Option<u64>,
}

/// What the calls of all streams took.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Nanoseconds of each call, in ascending order; there is at least one.
    times: Vec<f64>,
    /// Calls of all streams in a second.
    pub calls_per_second: f64,
}

impl Measured {
    /// The number of calls.
    pub fn runs(&self) -> usize {
        self.times.len()
    }

    /// The nanoseconds that this part of the calls took at most: 0.5 for the median.
    pub fn percentile(&self, part: f64) -> f64 {
        let at = (self.times.len() as f64 * part).ceil() as usize;
        self.times[at.clamp(1, self.times.len()) - 1]
    }

    /// The nanoseconds of the shortest call.
    pub fn min(&self) -> f64 {
        self.times[0]
    }

    /// Puts the calls of all streams together. The throughput is that of the time from the common start until the last stream had
    /// enough: later, fewer streams ran. A call that ended after that time counts by the part of its own time that is in it.
    fn of(streams: &[Stream]) -> Self {
        let end = streams.iter().map(|stream| stream.enough).max().unwrap_or_default();
        let calls = || streams.iter().flat_map(|stream| &stream.calls);
        let part = |call: &Call| match call.end.checked_sub(end) {
            Some(after) => call.time.saturating_sub(after).as_secs_f64() / call.time.as_secs_f64().max(1e-9),
            None => 1.0,
        };
        let counted: f64 = calls().map(part).sum();
        let mut times: Vec<f64> = calls().map(|call| call.time.as_nanos() as f64).collect();
        times.sort_by(f64::total_cmp);
        Measured { times, calls_per_second: counted / end.as_secs_f64().max(1e-9) }
    }
}

/// The calls of a stream, one after the other.
#[derive(Clone, Debug)]
struct Stream {
    calls: Vec<Call>,
    /// The end of the call with which it had measured enough.
    enough: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    time: Duration,
    /// From the common start.
    end: Duration,
}

/// What streams know of each other.
#[derive(Default)]
struct Together {
    /// Streams that have made the calls before the measured ones.
    ready: AtomicUsize,
    start: OnceLock<Instant>,
    /// Streams that have measured enough.
    enough: AtomicUsize,
    /// One has ended, or could not be started: the others end too.
    is_over: AtomicBool,
}

/// Tells the others at the end of a stream, also of one that fails.
struct End<'a>(&'a Together);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

impl Plan {
    /// Measures. Fails if the last results of a stream are not `expected`, bit for bit.
    pub fn measure(
        &self,
        expected: &[Tensor],
        call: &(impl Fn() -> Result<Vec<Tensor>, Error> + Sync),
    ) -> Result<Measured, Error> {
        let together = Together::default();
        let run = |stream: usize| {
            let (calls, results) = self.stream(&together, call)?;
            // A stream without calls ended because another one failed.
            match results == expected || calls.calls.is_empty() {
                true => Ok(calls),
                false => Err(Error::Streams { stream: stream + 1, streams: self.streams }),
            }
        };
        let streams: Result<Vec<Stream>, Error> = thread::scope(|scope| {
            let mut others = vec![];
            for stream in 1..self.streams {
                let run = &run;
                match thread::Builder::new().spawn_scoped(scope, move || run(stream)) {
                    Ok(thread) => others.push(thread),
                    Err(error) => {
                        together.is_over.store(true, Ordering::Relaxed);
                        return Err(self.refused(error));
                    }
                }
            }
            let first = run(0);
            let others: Vec<_> = others.into_iter().map(|thread| thread.join()).collect();
            let others =
                others.into_iter().map(|joined| joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            std::iter::once(first).chain(others).collect()
        });
        Ok(Measured::of(&streams?))
    }

    /// One stream: its calls, and its last results. Without calls if another one ended before the start.
    fn stream(
        &self,
        together: &Together,
        call: &impl Fn() -> Result<Vec<Tensor>, Error>,
    ) -> Result<(Stream, Vec<Tensor>), Error> {
        let _end = End(together);
        let (mut stream, mut results) = (Stream { calls: vec![], enough: Duration::ZERO }, vec![]);
        for _ in 0..self.warm {
            call()?;
        }
        together.ready.fetch_add(1, Ordering::Relaxed);
        let is_over = || together.is_over.load(Ordering::Relaxed);
        while together.ready.load(Ordering::Relaxed) < self.streams {
            if is_over() {
                return Ok((stream, results));
            }
            thread::yield_now();
        }
        let start = *together.start.get_or_init(Instant::now);
        let span = Span::new(self.least);
        let mut has_enough = false;
        while together.enough.load(Ordering::Relaxed) < self.streams && !is_over() {
            let begin = Instant::now();
            results = call()?;
            let end = Instant::now();
            stream.calls.push(Call { time: end - begin, end: end - start });
            if !has_enough && self.is_enough(stream.calls.len(), &span)? {
                has_enough = true;
                stream.enough = end - start;
                together.enough.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok((stream, results))
    }

    fn is_enough(&self, calls: usize, span: &Span) -> Result<bool, Error> {
        match self.repeat {
            Some(repeat) => Ok(calls as u64 >= repeat),
            None => Ok(calls >= LEAST_CALLS && span.is_over()?),
        }
    }

    fn refused(&self, error: io::Error) -> Error {
        let why = format!("the system starts no more: {error}");
        RuntimeError::Threads { threads: self.streams, why }.into()
    }
}

/// Streams and their threads as text.
pub fn show_streams(streams: usize, threads: usize) -> String {
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    let threads = format!("{threads} thread{}", plural(threads));
    if streams == 1 { threads } else { format!("{streams} streams of {threads}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(ends: &[u64], enough: usize) -> Stream {
        let ms = Duration::from_millis;
        let begins = std::iter::once(&0).chain(ends);
        let calls: Vec<Call> = begins.zip(ends).map(|(a, b)| Call { time: ms(b - a), end: ms(*b) }).collect();
        Stream { enough: calls[enough - 1].end, calls }
    }

    #[test]
    fn throughput_is_that_of_all_streams_together() {
        // The first has enough at 40 ms and goes on until the second has, at 60. By then half of its last call is done.
        let measured = Measured::of(&[stream(&[20, 40, 50, 70], 2), stream(&[30, 60], 2)]);
        assert_eq!(measured.times, [10e6, 20e6, 20e6, 20e6, 30e6, 30e6]);
        assert!((measured.calls_per_second - 5.5 / 0.060).abs() < 1e-6, "{measured:?}");
        assert_eq!((measured.percentile(0.5), measured.percentile(0.99), measured.min()), (20e6, 30e6, 10e6));
        // One that was not running for most of the time.
        let measured = Measured::of(&[stream(&[1, 2, 102], 2), stream(&[50, 100], 2)]);
        assert!((measured.calls_per_second - 4.98 / 0.100).abs() < 1e-6, "{measured:?}");
    }

    fn plan(streams: usize) -> Plan {
        Plan { streams, warm: 1, least: Duration::ZERO, repeat: Some(5) }
    }

    #[test]
    fn all_streams_call_at_once() {
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let call = || {
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(5));
            inside.fetch_sub(1, Ordering::SeqCst);
            Ok(vec![])
        };
        let measured = plan(3).measure(&[], &call).unwrap();
        assert!(measured.runs() >= 15 && measured.calls_per_second > 0.0, "{measured:?}");
        assert!((2..=3).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(plan(1).measure(&[], &call).unwrap().runs(), 5);
    }

    /// One stream's failure, before the start or after it, ends the others.
    #[test]
    fn failures_end_all_streams() {
        for allowed in [0, 2, 7] {
            let calls = AtomicUsize::new(0);
            let call = || match calls.fetch_add(1, Ordering::SeqCst) {
                at if at == allowed => Err(Error::NoProblem),
                _ => Ok(vec![]),
            };
            assert!(matches!(plan(3).measure(&[], &call), Err(Error::NoProblem)), "{allowed}");
        }
        let panics = std::panic::catch_unwind(|| plan(3).measure(&[], &|| panic!("on purpose")));
        assert!(panics.is_err());
    }

    #[test]
    fn other_results_are_an_error() {
        let calls = AtomicUsize::new(0);
        let call = || Ok(vec![Tensor::scalar(calls.fetch_add(1, Ordering::SeqCst) as f32)]);
        let error = plan(2).measure(&[Tensor::scalar(0.0f32)], &call).unwrap_err();
        assert!(matches!(error, Error::Streams { streams: 2, .. }) && error.exit_code() == 1, "{error}");
    }
}
