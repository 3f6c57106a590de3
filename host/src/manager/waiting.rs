//! A reload whose answer waits for preparations: it tells all that was done since it was asked.
//!
//! Kept by [`super::Manager`], and told of each preparation that ends. Pure: it starts nothing.

use std::{mem, sync::Arc};

use super::Answered;
use crate::control::{Change, What};

/// A reload that is to be answered.
pub(super) struct Waiting {
    missing: Vec<Arc<str>>,
    changes: Vec<Change>,
    answers: Vec<Answered>,
}

/// A reading of the configuration: who wants it, who is to be told, and what was done for them so far.
pub(super) struct Reading {
    pub(super) who: &'static str,
    pub(super) answers: Vec<Answered>,
    pub(super) changes: Vec<Change>,
}

impl Reading {
    /// One that somebody waits for, or nobody.
    pub(super) fn new(who: &'static str, answer: Option<Answered>) -> Self {
        Self { who, answers: Vec::from_iter(answer), changes: Vec::new() }
    }
}

impl Waiting {
    /// One that tells these changes, and what comes of looking at these processors.
    pub(super) fn new(missing: Vec<Arc<str>>, changes: Vec<Change>, answers: Vec<Answered>) -> Self {
        Self { missing, changes, answers }
    }

    /// A look at a processor has ended. It is the `last` one, or another follows because this began before who asked.
    /// That another look found nothing new says nothing where one of them has changed something, and what is the same
    /// is told once.
    pub(super) fn note(&mut self, name: &Arc<str>, changes: &[Change], last: bool) {
        if !self.missing.contains(name) {
            return;
        }
        let (its, others): (Vec<_>, _) = mem::take(&mut self.changes).into_iter().partition(|it| it.name == **name);
        let new: Vec<_> = changes.iter().filter(|change| !its.contains(change)).cloned().collect();
        let (unchanged, did): (Vec<_>, Vec<_>) =
            its.into_iter().chain(new).partition(|change| change.what == What::Unchanged);
        let unchanged = unchanged.into_iter().last().filter(|_| did.is_empty());
        self.changes = others;
        self.changes.extend(did.into_iter().chain(unchanged));
        if last {
            self.missing.retain(|missing| missing != name);
        }
    }

    /// Whether nothing is missing.
    pub(super) fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Answers.
    pub(super) fn tell(self) {
        // Who asked may be gone.
        self.answers.into_iter().for_each(|answer| drop(answer.send(Ok(self.changes.clone()))));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::manager::told;

    /// What is told of the looks at these processors, the last one of each ending its wait.
    fn told_of(looks: &[(&str, &[What], bool)]) -> Vec<(String, What)> {
        let (answer, answered) = oneshot::channel();
        let later = told("", What::Unchanged, None, "a restart takes up: admin");
        let mut waiting = Waiting::new(vec!["a".into(), "b".into()], vec![later], vec![answer]);
        for (name, whats, last) in looks {
            assert!(!waiting.is_complete());
            let changes: Vec<_> = whats.iter().map(|what| told(name, *what, None, "")).collect();
            waiting.note(&(*name).into(), &changes, *last);
        }
        assert!(waiting.is_complete());
        waiting.tell();
        let changes = answered.blocking_recv().unwrap().unwrap();
        changes.into_iter().map(|change| (change.name, change.what)).collect()
    }

    fn expected(told: &[(&str, What)]) -> Vec<(String, What)> {
        told.iter().map(|(name, what)| ((*name).to_owned(), *what)).collect()
    }

    /// The look that was under way took the new version up, and the one that was asked for found nothing new.
    #[test]
    fn what_a_look_under_way_has_done_is_told() {
        let told = told_of(&[
            ("a", &[What::Loaded, What::OnTrial], false),
            ("b", &[What::Unchanged], true),
            ("a", &[What::Unchanged], true),
        ]);
        let all = [("", What::Unchanged), ("b", What::Unchanged), ("a", What::Loaded), ("a", What::OnTrial)];
        assert_eq!(told, expected(&all));
    }

    #[test]
    fn nothing_new_is_told_once_and_what_was_refused_is_told_too() {
        let told = told_of(&[
            ("a", &[What::Unchanged], false),
            ("a", &[What::Unchanged], true),
            ("b", &[What::Refused], false),
            ("b", &[What::Refused], false),
            ("c", &[What::Loaded], true),
            ("b", &[What::Loaded, What::OnTrial], true),
        ]);
        let all = [
            ("", What::Unchanged),
            ("a", What::Unchanged),
            ("b", What::Refused),
            ("b", What::Loaded),
            ("b", What::OnTrial),
        ];
        assert_eq!(told, expected(&all));
    }
}
