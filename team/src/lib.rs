//! Teams of threads that do one job at a time, as often and as fast as a kernel after the other needs them.
//!
//! A *job* is a number of tasks that do not depend on each other. [`Team::run`] cuts them into a *share* for each thread, and each share
//! into a few *pieces*. A thread takes the pieces of its own share, then what is left of others' shares. So each thread does the same
//! tasks each time, and what they read is still in its core's cache, while a thread that is late leaves its work to others: the job
//! waits for the one piece at most that it is doing.
//!
//! # How a job begins and ends
//!
//! - The calling thread takes the team, writes down the job, and announces its number, its *generation*, in one word that idle members
//!   look at. That is all there is to do if they are awake.
//! - A member *enters* the job by a change of its own `seat`. When the caller finds nothing left to take, it *closes* the seats of
//!   members that have not entered. Both are a compare-and-exchange of one word, so either the member enters and the caller waits for it
//!   to leave, or the seat is closed and the member does not look at the job. So the caller never waits for a member that
//!   has not begun.
//! - A member that has found nothing to do for a while sleeps until a caller wakes it. A caller wakes two members, and each of them two
//!   more, so that nobody makes many system calls.
//!
//! A thread that finds the team taken, because it is inside a job itself or another thread is quicker, does its tasks piece by piece, and
//! looks between them if the team is free. So calls come to an end, whatever other calls do and however they nest.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use std::time::Duration;
//!
//! let spin = Duration::from_micros(100);
//! let team = kiln_team::Team::start(&kiln_team::Settings { members: 1, spin, name: "example".into() })?;
//! let sum = AtomicU64::new(0);
//! team.run(100, 2, &|tasks| {
//!     sum.fetch_add(tasks.sum(), Ordering::Relaxed);
//! });
//! assert_eq!(sum.into_inner(), 4950);
//! # Ok::<(), std::io::Error>(())
//! ```

mod job;
mod seat;
mod shares;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;

use std::io;
use std::ops::Range;
use std::time::Duration;

use job::Shared;
use shares::{PIECES, Shares};
use sync::{Arc, Builder, JoinHandle, thread};

/// The most members of a team.
pub const MAX_MEMBERS: usize = 1 << 15;

/// The settings of a team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Threads besides those that call.
    pub members: usize,
    /// The time for which an idle member looks for work before it sleeps, and for which a caller looks whether members have ended before it does.
    /// It keeps a core busy for that long after each job, and pays if another job begins meanwhile: to wake a thread takes tens of
    /// microseconds. With zero, members sleep at once, as is right where there are more threads than cores.
    pub spin: Duration,
    /// The beginning of the members' names, which a number follows.
    pub name: String,
}

/// Threads that do jobs. They have ended when the team is dropped. See the [module](self).
pub struct Team {
    shared: Arc<Shared>,
    members: Vec<JoinHandle<()>>,
}

/// Several teams, so that as many calls at once do not wait for each other.
pub struct Teams(Vec<Team>);

impl Team {
    /// Starts the members.
    pub fn start(settings: &Settings) -> io::Result<Team> {
        Team::start_with(settings, &|| {})
    }

    fn start_with(settings: &Settings, begin: &(impl Fn() + Clone + Send + 'static)) -> io::Result<Team> {
        if settings.members > MAX_MEMBERS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("more than {MAX_MEMBERS} members")));
        }
        let mut team = Team { shared: Arc::new(Shared::new(settings.members, settings.spin)), members: vec![] };
        for member in 1..=settings.members {
            let shared = Arc::clone(&team.shared);
            let name = format!("{}-{member}", settings.name);
            // If the system starts no more, dropping `team` ends those that were started.
            let begin = begin.clone();
            let serve = move || {
                begin();
                shared.serve(member);
            };
            team.members.push(Builder::new().name(name).spawn(serve)?);
        }
        Ok(team)
    }

    /// Threads besides those that call.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Calls `work` with ranges that partition `0..tasks`, on the calling thread and on up to `threads - 1` members, and returns when
    /// all calls have returned. A panic is passed on, the first of several; some tasks may not have been done then.
    ///
    /// With `n` the least of `threads`, the team's members and the caller, and `tasks`, the caller begins with the first of `n` equal shares,
    /// and each member with the same other one each time.
    ///
    /// `work` may call this method itself, and so may other threads meanwhile: while the team is at work for one call, others do
    /// their tasks on their own threads.
    pub fn run(&self, tasks: u64, threads: usize, work: &(dyn Fn(Range<u64>) + Sync)) {
        run(std::slice::from_ref(self), 0, tasks, threads, work);
    }

    /// The threads that so many tasks are divided among, if so many are asked for.
    fn threads_for(&self, tasks: u64, threads: usize) -> usize {
        let threads = threads.min(self.members.len() + 1);
        usize::try_from(tasks).map_or(threads, |tasks| tasks.min(threads))
    }
}

impl Teams {
    /// Starts so many teams, at least one, each as the settings say.
    pub fn start(teams: usize, settings: &Settings) -> io::Result<Teams> {
        Teams::start_with(teams, settings, &|_| {})
    }

    /// Does as [`start`](Self::start), and each member calls `begin` with the number of its team, from 0 on, before anything else.
    pub fn start_with(
        teams: usize,
        settings: &Settings,
        begin: &(impl Fn(usize) + Clone + Send + 'static),
    ) -> io::Result<Teams> {
        let start = |team: usize| {
            let name = if teams < 2 { settings.name.clone() } else { format!("{}-{}", settings.name, team + 1) };
            let begin = begin.clone();
            Team::start_with(&Settings { name, ..settings.clone() }, &move || begin(team))
        };
        Ok(Teams((0..teams.max(1)).map(start).collect::<io::Result<_>>()?))
    }

    /// Does as [`Team::run`], on one of the teams: the one that the calling thread used last if that is free, else another one.
    pub fn run(&self, tasks: u64, threads: usize, work: &(dyn Fn(Range<u64>) + Sync)) {
        match &*self.0 {
            [team] => team.run(tasks, threads, work),
            teams => last_team::remember(|last| run(teams, last, tasks, threads, work)),
        }
    }
}

/// Does as [`Team::run`] on the first free team from `first` on, and tells which was the last one used.
fn run(teams: &[Team], first: usize, tasks: u64, threads: usize, work: &(dyn Fn(Range<u64>) + Sync)) -> usize {
    // All teams are as large.
    let Some(threads) = teams.first().map(|team| team.threads_for(tasks, threads)).filter(|threads| *threads > 1)
    else {
        if tasks > 0 {
            work(0..tasks);
        }
        return first;
    };
    // What one thread does of its own share before it looks again.
    let piece = (tasks / threads as u64).div_ceil(PIECES);
    let mut begin = 0;
    while begin < tasks {
        let left = teams[0].threads_for(tasks - begin, threads);
        let order = (0..teams.len()).map(|n| (first % teams.len() + n) % teams.len());
        for at in order.filter(|_| left > 1) {
            if teams[at].shared.lead(&Shares::new(begin..tasks, left), work) {
                return at;
            }
        }
        let end = tasks.min(begin + piece);
        work(begin..end);
        begin = end;
    }
    first
}

/// The number of the team that a thread used last.
mod last_team {
    #[cfg(not(loom))]
    pub fn remember(run: impl FnOnce(usize) -> usize) {
        thread_local!(static LAST: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });
        LAST.with(|last| last.set(run(last.get())));
    }

    #[cfg(loom)]
    pub fn remember(run: impl FnOnce(usize) -> usize) {
        run(0);
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.end();
        let this = thread::current().id();
        // A member that drops the team cannot wait for itself.
        for member in self.members.drain(..).filter(|member| member.thread().id() != this) {
            // A member does not panic: what it calls is caught, and passed on to callers.
            let _ = member.join();
        }
    }
}
