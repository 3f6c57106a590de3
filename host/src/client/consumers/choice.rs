//! Which entries of `host_port_list` are read now: a state machine without clock, sockets or names.

use std::time::Duration;

use tokio::time::Instant;

/// How an entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not known yet.
    Trying,
    /// At least one of its addresses is subscribed.
    Up,
    /// None of its addresses could be reached.
    Down,
}

/// The first entry is the first choice: the caller has shuffled them.
#[derive(Debug)]
pub(super) struct Choice {
    count: usize,
    all: bool,
    back_after: Duration,
    now: Now,
}

#[derive(Debug)]
enum Now {
    /// The entries up to this one are tried; those before it are down.
    Searching(usize),
    /// One is read; where it is not the first choice, that is tried again then.
    Reading(usize, Instant),
}

impl Choice {
    pub(super) fn new(count: usize, all: bool, back_after: Duration) -> Self {
        Self { count, all, back_after, now: Now::Searching(0) }
    }

    pub(super) fn is_all(&self) -> bool {
        self.all
    }

    /// The entries to read from.
    pub(super) fn wanted(&mut self, standing: impl Fn(usize) -> Option<Standing>, now: Instant) -> Vec<usize> {
        if self.all {
            return (0..self.count).collect();
        }
        let is = |entry, wanted| standing(entry) == Some(wanted);
        if matches!(self.now, Now::Reading(entry, _) if is(entry, Standing::Down)) {
            self.now = Now::Searching(0);
        }
        loop {
            match &mut self.now {
                Now::Searching(last) => {
                    if let Some(up) = (0..=*last).find(|entry| is(*entry, Standing::Up)) {
                        self.now = Now::Reading(up, now + self.back_after);
                    } else if (0..=*last).all(|entry| is(entry, Standing::Down)) && *last + 1 < self.count {
                        *last += 1;
                    } else {
                        return (0..=*last).collect();
                    }
                }
                Now::Reading(entry, back) => {
                    let entry = *entry;
                    if entry == 0 || now < *back {
                        return vec![entry];
                    }
                    match standing(0) {
                        Some(Standing::Up) => self.now = Now::Reading(0, now),
                        Some(Standing::Down) => {
                            *back = now + self.back_after;
                            return vec![entry];
                        }
                        _ => return vec![0, entry],
                    }
                }
            }
        }
    }

    /// When the first choice is to be tried again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        match self.now {
            Now::Reading(entry, back) if entry != 0 && back > Instant::now() => Some(back),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Standing::*, *};

    const MINUTES: Duration = Duration::from_secs(300);

    fn wanted(choice: &mut Choice, standings: [Standing; 3], now: Instant) -> Vec<usize> {
        choice.wanted(|entry| standings.get(entry).copied(), now)
    }

    #[tokio::test(start_paused = true)]
    async fn any_is_one_and_the_others_when_it_is_down() {
        let (mut choice, now) = (Choice::new(3, false, MINUTES), Instant::now());
        assert_eq!(wanted(&mut choice, [Trying; 3], now), [0]);
        assert_eq!(wanted(&mut choice, [Up, Trying, Trying], now), [0]);
        assert_eq!(wanted(&mut choice, [Trying; 3], now), [0], "a lost connection alone is no reason");
        assert_eq!(wanted(&mut choice, [Down, Trying, Trying], now), [0, 1]);
        assert_eq!(wanted(&mut choice, [Down, Down, Trying], now), [0, 1, 2]);
        assert_eq!(wanted(&mut choice, [Down; 3], now), [0, 1, 2]);
        assert_eq!(wanted(&mut choice, [Down, Up, Up], now), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_choice_comes_back_when_it_can_be_reached() {
        let (mut choice, start) = (Choice::new(3, false, MINUTES), Instant::now());
        assert_eq!(wanted(&mut choice, [Down, Up, Trying], start), [1]);
        assert_eq!(choice.next_look(), Some(start + MINUTES));
        assert_eq!(wanted(&mut choice, [Trying, Up, Trying], start + MINUTES / 2), [1]);
        let late = start + MINUTES;
        assert_eq!(wanted(&mut choice, [Trying, Up, Trying], late), [0, 1], "both until it is known");
        assert_eq!(wanted(&mut choice, [Down, Up, Trying], late), [1]);
        assert_eq!(wanted(&mut choice, [Trying, Up, Trying], late + MINUTES / 2), [1]);
        assert_eq!(wanted(&mut choice, [Up, Up, Trying], late + MINUTES), [0]);
        assert_eq!(choice.next_look(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn all_is_all_whatever_happens() {
        let (mut choice, now) = (Choice::new(3, true, MINUTES), Instant::now());
        for standings in [[Trying; 3], [Up; 3], [Down; 3], [Up, Down, Trying]] {
            assert_eq!(wanted(&mut choice, standings, now), [0, 1, 2]);
        }
    }
}
