//! What the lanes of one processor run: the stable generation, and beside it a candidate while it is on trial.

mod report;

pub use self::report::{GenerationReport, LaneReport, StageReport};

/// What the lanes of one processor run.
#[derive(Debug, Default)]
pub struct Stage {}

impl Stage {
    /// What there is to tell of it.
    #[must_use]
    pub fn report(&self) -> StageReport {
        StageReport::default()
    }
}
