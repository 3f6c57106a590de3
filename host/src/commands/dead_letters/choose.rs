//! Which dead letters are meant: by the beginnings of their ids, or by what is said of them.

use std::collections::BTreeSet;

use super::letter::Letter;
use crate::cli::LetterFilter;

/// How many ids an ambiguous one is told with.
const TOLD: usize = 8;

/// Whether a letter passes.
pub(super) fn is_meant(letter: &Letter, filter: &LetterFilter) -> bool {
    let is = |wanted: &Option<String>, name| wanted.as_deref().is_none_or(|wanted| letter.story(name) == Some(wanted));
    let generation = filter.failed_generation;
    is(&filter.code, "error_code")
        && is(&filter.processor, "processor")
        && generation.is_none_or(|wanted| letter.number("generation") == Some(wanted))
}

/// The indices of the letters with these ids. One id names all copies of a letter: it was sent twice when a
/// connection broke.
///
/// # Errors
/// Ids that name none, or several: then nothing is to be done with any.
pub(super) fn by_ids(letters: &[Letter], ids: &[String]) -> Result<BTreeSet<usize>, Vec<String>> {
    let (mut chosen, mut problems) = (BTreeSet::new(), Vec::new());
    for id in ids {
        let named = || letters.iter().enumerate().filter(|(_, letter)| letter.hash.starts_with(id.as_str()));
        let different: BTreeSet<&str> = named().map(|(_, letter)| letter.id()).collect();
        match different.len() {
            0 => problems.push(format!(
                "there is no dead letter {id}: `stompbox dead-letters list` prints those there are; another command \
                 may hold it, or --wait is too short"
            )),
            1 => chosen.extend(named().map(|(index, _)| index)),
            many => {
                let told: Vec<&str> = different.into_iter().take(TOLD).collect();
                let more = if many > TOLD { ", ..." } else { "" };
                problems.push(format!("{id} is the beginning of {many} ids: {}{more}", told.join(", ")));
            }
        }
    }
    if problems.is_empty() { Ok(chosen) } else { Err(problems) }
}
