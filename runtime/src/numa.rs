//! Nodes of a machine: processors with memory of their own.
//!
//! Where the machine has several nodes, each stream's threads run on one of them ([`streams`](crate::RuntimeBuilder::streams)), so that what
//! they write first, such as scratch memory, is in that node's memory. Linux tells the nodes in `/sys/devices/system/node`; other
//! systems, and machines with one node, have one, and no thread is bound to anything.

use std::fs;
use std::path::Path;

/// Processors of each node that this process may use, nodes in order. At least one node, empty where the system does not tell.
pub(crate) fn nodes() -> Vec<Vec<usize>> {
    nodes_in(Path::new("/sys/devices/system/node"), &allowed())
}

/// Those of the nodes that `folder` tells of, without processors that are not allowed and nodes that have none left.
fn nodes_in(folder: &Path, allowed: &[usize]) -> Vec<Vec<usize>> {
    let list = |path: &Path| fs::read_to_string(path).ok().and_then(|text| numbers(&text));
    let online = list(&folder.join("online")).unwrap_or_default();
    let of_node = |node: usize| {
        let all = list(&folder.join(format!("node{node}")).join("cpulist"))?;
        Some(all.into_iter().filter(|cpu| allowed.contains(cpu)).collect::<Vec<_>>())
    };
    let nodes: Vec<_> = online.into_iter().filter_map(of_node).filter(|cpus| !cpus.is_empty()).collect();
    if nodes.is_empty() { vec![allowed.to_vec()] } else { nodes }
}

/// The numbers of a list as Linux writes it: `0-3,8,10-11`.
fn numbers(text: &str) -> Option<Vec<usize>> {
    /// More processors than Linux can have.
    const MOST: usize = 1 << 16;
    let mut all = vec![];
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// Processors that this process may use; none where the system does not tell.
#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    // SAFETY: the set is plain bits, of which zeros are a value; the call writes no more than its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        match libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) {
            0 => (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &set)).collect(),
            _ => vec![],
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Vec<usize> {
    vec![]
}

/// Binds the calling thread to processors. A system that refuses leaves it where it is, which costs time and nothing else.
#[cfg(target_os = "linux")]
pub(crate) fn bind(cpus: &[usize]) {
    // SAFETY: the set is plain bits, of which zeros are a value, and has a bit for each processor that is set; the call reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE as usize).for_each(|cpu| libc::CPU_SET(*cpu, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn bind(_: &[usize]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        assert_eq!(numbers("0-3,8,10-11\n"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(numbers("\n"), Some(vec![]));
        for bad in ["x", "1-", "3-2", "0-99999999", "-1"] {
            assert_eq!(numbers(bad), None, "{bad}");
        }
    }

    #[test]
    fn nodes_have_the_processors_that_are_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("online", "0-2\n");
        for (node, cpus) in ["0-3", "4-7", "8-9"].into_iter().enumerate() {
            write(&format!("node{node}/cpulist"), cpus);
        }
        assert_eq!(nodes_in(folder.path(), &[1, 2, 5]), [vec![1, 2], vec![5]]);
        assert_eq!(nodes_in(&folder.path().join("none"), &[1, 2]), [vec![1, 2]]);
    }

    #[test]
    fn this_machine_has_nodes_and_threads_can_be_bound() {
        let nodes = nodes();
        assert!(!nodes.is_empty());
        let cpus = nodes[0].clone();
        if cfg!(target_os = "linux") {
            let seen = std::thread::spawn(move || {
                bind(&cpus[..1]);
                (allowed(), cpus)
            });
            let (seen, cpus) = seen.join().unwrap();
            assert_eq!(seen, cpus[..1]);
        }
    }
}
