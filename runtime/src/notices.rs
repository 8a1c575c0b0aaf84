//! The notices of a runtime, each of which is told once.

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::error::RuntimeError;
use crate::lock::lock;
use crate::notice::Notice;
use crate::verbose::Verbose;

/// Notices of a runtime that are kept; each file of a directory may have one.
const MOST: usize = 64;

/// Is called with each notice.
pub(crate) type Listener = Arc<dyn Fn(&Notice) + Send + Sync>;

/// The notices of a runtime.
pub(crate) struct Notices {
    told: Mutex<Vec<Notice>>,
    is_strict: bool,
    listener: Option<Listener>,
    verbose: Option<Verbose>,
}

impl Notices {
    pub(crate) fn new(is_strict: bool, listener: Option<Listener>, verbose: Option<Verbose>) -> Self {
        Notices { told: Mutex::default(), is_strict, listener, verbose }
    }

    /// Tells of something, unless it was told before, or so much was that nobody wants more. Fails with strict settings.
    pub(crate) fn tell(&self, notice: Notice) -> Result<(), RuntimeError> {
        self.note(&notice);
        // Another process that is slow is no setting.
        match self.is_strict && !matches!(notice, Notice::CacheLock { .. }) {
            true => Err(RuntimeError::Strict { notice: Box::new(notice) }),
            false => Ok(()),
        }
    }

    fn note(&self, notice: &Notice) {
        {
            let mut told = lock(&self.told);
            if told.len() >= MOST || told.iter().any(|other| other.subject() == notice.subject()) {
                return;
            }
            told.push(notice.clone());
        }
        let path = notice.path().display();
        tracing::warn!(%path, "{notice}");
        if let Some(verbose) = &self.verbose {
            verbose.notice(&path, notice);
        }
        if let Some(listener) = &self.listener {
            listener(notice);
        }
    }

    /// True if settings that cannot be followed are errors.
    pub(crate) fn are_strict(&self) -> bool {
        self.is_strict
    }

    /// All so far, in the order in which they were told.
    pub(crate) fn all(&self) -> Vec<Notice> {
        lock(&self.told).clone()
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn dump(path: &str) -> Notice {
        Notice::CodeDump { path: path.into(), error: Arc::new(io::ErrorKind::StorageFull.into()) }
    }

    #[test]
    fn each_is_told_once_and_so_many_are_kept() {
        let count = Arc::new(AtomicUsize::new(0));
        let listener = {
            let count = count.clone();
            move |_: &Notice| {
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let notices = Notices::new(false, Some(Arc::new(listener)), None);
        for _ in 0..3 {
            notices.tell(dump("a")).unwrap();
            notices.tell(dump("b")).unwrap();
            notices.tell(Notice::CacheLock { path: "a".into() }).unwrap();
        }
        assert_eq!((notices.all().len(), count.load(Ordering::Relaxed)), (3, 3));
        (0..1000).for_each(|n| notices.tell(dump(&n.to_string())).unwrap());
        assert_eq!((notices.all().len(), count.load(Ordering::Relaxed)), (MOST, MOST));
    }

    #[test]
    fn strict_settings_make_errors_of_all_but_slow_neighbours() {
        let notices = Notices::new(true, None, None);
        for _ in 0..2 {
            let e = notices.tell(dump("/a/folder")).unwrap_err();
            assert!(e.to_string().starts_with("/a/folder: no code is dumped to the directory: "), "{e}");
        }
        notices.tell(Notice::CacheLock { path: "a".into() }).unwrap();
        assert_eq!(notices.all().len(), 2);
    }
}
