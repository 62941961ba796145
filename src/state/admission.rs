//! How many requests run at a time, in the whole process: what is more is refused at once, before it costs anything, so that
//! what was admitted is served.
//!
//! A worker takes places from all of them a few at a time and gives spare ones back, so that most requests touch only a
//! number of their own worker. No more than `limit` requests ever run. A few less may, while others have spare places: at
//! most an eighth of them.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Most places a worker takes at a time.
const MOST_AT_A_TIME: usize = 64;

/// The places of the process.
#[derive(Clone, Debug)]
pub struct Admission {
    free: Arc<AtomicUsize>,
    at_a_time: usize,
}

impl Admission {
    /// This many places for this many workers.
    pub fn new(limit: usize, workers: usize) -> Self {
        let at_a_time = (limit / workers.max(1) / 8).clamp(1, MOST_AT_A_TIME);
        Self { free: Arc::new(AtomicUsize::new(limit)), at_a_time }
    }

    /// The places as one worker sees them.
    pub fn worker(&self) -> Rc<Door> {
        Rc::new(Door { all: self.clone(), spare: Cell::new(0) })
    }
}

/// Where the requests of one worker come in.
#[derive(Debug)]
pub struct Door {
    all: Admission,
    spare: Cell<usize>,
}

/// A place; given back when dropped.
#[derive(Debug)]
#[must_use = "what is not held is not taken"]
pub struct Admitted(Rc<Door>);

impl Door {
    /// A place for one request; `None` if there is none left.
    pub fn admit(self: &Rc<Self>) -> Option<Admitted> {
        let spare = match self.spare.get() {
            0 => self.fetch(),
            spare => spare,
        };
        self.spare.set(spare.checked_sub(1)?);
        Some(Admitted(Rc::clone(self)))
    }

    /// Takes some of all places.
    #[cold]
    fn fetch(&self) -> usize {
        let most = self.all.at_a_time;
        let taken = self.all.free.fetch_update(Relaxed, Relaxed, |free| Some(free - free.min(most)));
        taken.map_or(0, |free| free.min(most))
    }

    fn give_back(&self, spare: usize) {
        self.all.free.fetch_add(spare, Relaxed);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let door = &self.0;
        let spare = door.spare.get() + 1;
        if spare < door.all.at_a_time {
            door.spare.set(spare);
        } else {
            door.spare.set(0);
            door.give_back(spare);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.give_back(self.spare.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_all_places_are_taken_and_each_comes_back() {
        for (limit, workers) in [(1, 1), (2, 2), (100, 4), (10_000, 2)] {
            let all = Admission::new(limit, workers);
            let doors: Vec<_> = (0..workers).map(|_| all.worker()).collect();
            for round in 0..3 {
                let mut admitted: Vec<_> = (0..limit).map(|n| doors[(n / 7) % workers].admit()).collect();
                let least = limit - all.at_a_time * (workers - 1);
                assert!(admitted.iter().flatten().count() >= least, "{limit} {workers} in round {round}");
                admitted.extend(doors.iter().map(Door::admit));
                assert!(admitted.iter().flatten().count() <= limit, "{limit} {workers} in round {round}");
            }
            drop(doors);
            assert_eq!(all.free.load(Relaxed), limit);
        }
    }

    #[test]
    fn a_worker_with_spare_places_does_not_ask_for_more() {
        let all = Admission::new(10_000, 1);
        let door = all.worker();
        let _first = door.admit();
        let before = all.free.load(Relaxed);
        for _ in 0..1000 {
            drop(door.admit());
        }
        assert_eq!(all.free.load(Relaxed), before);
    }
}
