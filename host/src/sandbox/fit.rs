//! Whether an instance fits into its limits, and what they would have to be.
//!
//! Asked by [`crate::generation`] for the limits of a processor, and by `inspect` for the default ones. The words for
//! a person are here, once; keys are those of `limits` in the configuration.

use super::{
    describe::{Needs, describe_within},
    limits::Limits,
    load_error::LoadError,
    spec::{SMALL_BUDGET, Spec},
};
use crate::outcome::CallError;

/// Why no instance fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The key of the limit at fault; none where no single one is.
    pub key: Option<&'static str>,
    /// What it would have to be.
    pub message: String,
}

impl Spec {
    /// Whether an instance fits into the limits: makes one and lets it describe itself, which has no effect
    /// on anything. What `initialize` needs beyond that only its run shows.
    ///
    /// # Errors
    /// It does not fit: all limits at fault.
    pub fn check_fit(&self) -> Result<(), Vec<Misfit>> {
        let Err(error) = describe_within(&self.component, &self.limits, self.start_budget().within(SMALL_BUDGET))
        else {
            return Ok(());
        };
        let LoadError::Describe(error) = error else {
            return Err(vec![Misfit { key: None, message: format!("the component cannot be tried: {error}") }]);
        };
        let needs = self.component.needs().ok();
        let rows = needs.map(|needs| needs.rows(&self.limits, self.fresh));
        let lacking: Vec<Misfit> = rows.iter().flatten().filter(|row| row.lacks()).map(Row::misfit).collect();
        Err(if lacking.is_empty() { vec![self.other_misfit(&error)] } else { lacking })
    }

    /// What the numbers do not tell.
    fn other_misfit(&self, error: &CallError) -> Misfit {
        let time = if self.fresh { "time_ms" } else { "init_time_ms" };
        let (key, what) = match error {
            CallError::Memory { .. } => (Some("memory_mb"), "with so little"),
            CallError::Deadline { .. } => (Some(time), "in so little time"),
            _ => (None, "within its limits"),
        };
        Misfit { key, message: format!("the component cannot start {what}: {error}") }
    }
}

/// A limit, what is needed of it and what is allowed, in the units of the configuration.
#[derive(Debug, Clone, Copy)]
struct Row {
    key: &'static str,
    needed: u64,
    allowed: u64,
}

impl Row {
    fn lacks(&self) -> bool {
        self.needed > self.allowed
    }

    fn misfit(&self) -> Misfit {
        let message = format!("the component cannot start with so little: it needs {} at least", self.needed);
        Misfit { key: Some(self.key), message }
    }
}

impl Needs {
    fn rows(&self, limits: &Limits, fresh: bool) -> [Row; 3] {
        let mb = |bytes: usize| bytes.div_ceil(1 << 20) as u64;
        let (memory, tables) = (mb(self.memory_bytes), self.table_elements as u64);
        [
            Row { key: "memory_mb", needed: memory, allowed: mb(limits.memory_bytes) },
            Row { key: "table_elements", needed: tables, allowed: limits.table_elements as u64 },
            if fresh {
                Row { key: "fuel", needed: self.fuel, allowed: limits.fuel }
            } else {
                Row { key: "init_fuel", needed: self.fuel, allowed: limits.init_fuel }
            },
        ]
    }

    /// Says in one line whether an instance fits into limits, and what it needs of them.
    #[must_use]
    pub fn compared_with(&self, limits: &Limits) -> String {
        let rows = self.rows(limits, false);
        let told = rows.map(|Row { key, needed, allowed }| format!("{key} {needed} of {allowed}")).join(", ");
        let lacking: Vec<String> =
            rows.iter().filter(|row| row.lacks()).map(|row| format!("limits.{}: {}", row.key, row.needed)).collect();
        if lacking.is_empty() {
            format!("yes: to start it needs {told}")
        } else {
            format!("not into these limits: it needs at least {}", lacking.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, Needs};

    #[test]
    fn what_does_not_fit_is_told_with_the_number_it_needs() {
        let needs = Needs { memory_bytes: (1 << 20) + 1, table_elements: 100, fuel: 5_000 };
        assert_eq!(
            needs.compared_with(&Limits::default()),
            "yes: to start it needs memory_mb 2 of 64, table_elements 100 of 100000, init_fuel 5000 of 10000000000"
        );
        let larger = Needs { memory_bytes: 80 << 20, table_elements: 150_000, ..needs };
        assert_eq!(
            larger.compared_with(&Limits::default()),
            "not into these limits: it needs at least limits.memory_mb: 80, limits.table_elements: 150000"
        );
    }
}
