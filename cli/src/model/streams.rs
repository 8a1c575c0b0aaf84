//! Calls of one network side by side, timed.
//!
//! Each stream is a thread that calls again and again. All begin at once, after calls that are not measured. The throughput is that of
//! the time in which all of them call: until the first has done.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use kiln_jit::RuntimeError;
use kiln_model::Tensor;

use crate::error::Error;
use crate::timing::Span;

/// The fewest calls of each stream that percentiles are taken of.
const LEAST_CALLS: usize = 3;

/// The number of streams that call, and the time for which they do.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Calls side by side.
    pub streams: usize,
    /// Calls of each stream before the measured ones.
    pub warm: u64,
    /// The time to measure for.
    pub least: Duration,
    /// The calls of each stream, in place of the time.
    pub repeat: Option<u64>,
}

/// The times of the calls of all streams.
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

    /// Puts the calls of all streams together. The throughput is that of the time from the common start until the first stream has
    /// done: later, fewer streams run. A call that ended after that time counts by the part of its own time that is in it.
    fn of(streams: &[Vec<Call>]) -> Self {
        let ends = streams.iter().filter_map(|calls| Some(calls.last()?.end));
        let end = ends.min().unwrap_or_default();
        let calls = || streams.iter().flatten();
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

#[derive(Clone, Copy, Debug)]
struct Call {
    time: Duration,
    /// From the common start.
    end: Duration,
}

/// The state that streams share.
#[derive(Default)]
struct Together {
    /// Those that have made the calls before the measured ones.
    ready: Mutex<Vec<Thread>>,
    /// When the last of them was ready.
    start: OnceLock<Instant>,
    /// One has failed, or could not be started: the others end too.
    has_failed: AtomicBool,
}

impl Together {
    /// Waits until so many streams are ready, and gives the time at which they begin; none if one has failed. Each sleeps by itself: with
    /// one lock for all, they would begin one after the other, and later ones would wait for the processors that the first ones keep busy.
    fn begin(&self, streams: usize) -> Option<Instant> {
        let count = {
            let mut ready = self.ready();
            ready.push(thread::current());
            ready.len()
        };
        if count >= streams {
            self.start.get_or_init(Instant::now);
            self.wake();
        }
        while self.start.get().is_none() && !self.has_failed() {
            thread::park();
        }
        self.start.get().copied()
    }

    fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    fn fail(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        self.ready().iter().for_each(Thread::unpark);
    }

    fn ready(&self) -> MutexGuard<'_, Vec<Thread>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream. One that is dropped before it has done, by an error or a panic, ends the others.
struct Stream<'a> {
    together: &'a Together,
    has_done: bool,
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if !self.has_done {
            self.together.fail();
        }
    }
}

impl Workload {
    /// Measures. Fails if the last results of a stream are not `expected`, bit for bit.
    pub fn measure(
        &self,
        expected: &[Tensor],
        call: &(impl Fn() -> Result<Vec<Tensor>, Error> + Sync),
    ) -> Result<Measured, Error> {
        let together = Together::default();
        let run = |stream: usize| {
            let (calls, results) = self.stream(&together, call)?;
            // One without calls ended because another failed.
            match results == expected || calls.is_empty() {
                true => Ok(calls),
                false => Err(Error::Streams { stream: stream + 1, streams: self.streams }),
            }
        };
        let streams: Result<Vec<Vec<Call>>, Error> = thread::scope(|scope| {
            let mut others = vec![];
            for stream in 1..self.streams {
                let run = &run;
                match thread::Builder::new().spawn_scoped(scope, move || run(stream)) {
                    Ok(thread) => others.push(thread),
                    Err(error) => {
                        together.fail();
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

    /// The calls of one stream, and its last results. They are not complete if another one fails.
    fn stream(
        &self,
        together: &Together,
        call: &impl Fn() -> Result<Vec<Tensor>, Error>,
    ) -> Result<(Vec<Call>, Vec<Tensor>), Error> {
        let mut stream = Stream { together, has_done: false };
        let (mut calls, mut results) = (vec![], vec![]);
        for _ in 0..self.warm {
            call()?;
        }
        let Some(start) = together.begin(self.streams) else { return Ok((calls, results)) };
        let span = Span::new(self.least);
        while !self.is_enough(calls.len(), &span)? && !together.has_failed() {
            let begin = Instant::now();
            results = call()?;
            let end = Instant::now();
            calls.push(Call { time: end - begin, end: end - start });
        }
        stream.has_done = true;
        Ok((calls, results))
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
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn stream(ends: &[u64]) -> Vec<Call> {
        let ms = Duration::from_millis;
        let begins = std::iter::once(&0).chain(ends);
        begins.zip(ends).map(|(a, b)| Call { time: ms(b - a), end: ms(*b) }).collect()
    }

    #[test]
    fn throughput_is_that_of_all_streams_together() {
        // When the second has done, half of the last call of the first is done.
        let measured = Measured::of(&[stream(&[20, 40, 50, 70]), stream(&[30, 60])]);
        assert_eq!(measured.times, [10e6, 20e6, 20e6, 20e6, 30e6, 30e6]);
        assert!((measured.calls_per_second - 5.5 / 0.060).abs() < 1e-6, "{measured:?}");
        assert_eq!((measured.percentile(0.5), measured.percentile(0.99), measured.min()), (20e6, 30e6, 10e6));
        // One that did not run for most of the time, and calls that began too late.
        let measured = Measured::of(&[stream(&[1, 2, 102, 110, 120]), stream(&[50, 100])]);
        assert!((measured.calls_per_second - 4.98 / 0.100).abs() < 1e-6, "{measured:?}");
    }

    fn workload(streams: usize) -> Workload {
        Workload { streams, warm: 1, least: Duration::ZERO, repeat: Some(5) }
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
        let measured = workload(3).measure(&[], &call).unwrap();
        assert!(measured.runs() == 15 && measured.calls_per_second > 0.0, "{measured:?}");
        assert!((2..=3).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(workload(1).measure(&[], &call).unwrap().runs(), 5);
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
            assert!(matches!(workload(3).measure(&[], &call), Err(Error::NoProblem)), "{allowed}");
        }
        let panics = std::panic::catch_unwind(|| workload(3).measure(&[], &|| panic!("on purpose")));
        assert!(panics.is_err());
    }

    #[test]
    fn other_results_are_an_error() {
        let calls = AtomicUsize::new(0);
        let call = || Ok(vec![Tensor::scalar(calls.fetch_add(1, Ordering::SeqCst) as f32)]);
        let error = workload(2).measure(&[Tensor::scalar(0.0f32)], &call).unwrap_err();
        assert!(matches!(error, Error::Streams { streams: 2, .. }) && error.exit_code() == 1, "{error}");
    }
}
