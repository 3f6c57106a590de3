//! What an instance is made of.
//!
//! Filled by the generation, shared by its lanes, read by [`super::instance`] and [`super::output`].

use std::{sync::Arc, time::Duration};

use super::{component::Component, counters::Counters, limits::Limits, output::Rules, state::Budget};
use crate::log_rate::LogRate;

/// What `describe` and `terminate` may use.
pub(crate) const SMALL_BUDGET: Budget = Budget { fuel: 1_000_000_000, time: Duration::from_secs(1) };

/// Everything that makes an instance of a processor; shared by the lanes of a generation.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The component.
    pub component: Component,
    /// Which of the component's processors: `name` in the configuration.
    pub class: String,
    /// The key of the processor in the configuration.
    pub processor: Arc<str>,
    /// The virtual organisation; empty where none is configured.
    pub vo: Arc<str>,
    /// The number of the generation.
    pub generation: u64,
    /// What an instance may use.
    pub limits: Limits,
    /// The parameters, as JSON text.
    pub params: String,
    /// The queues that an output may name, the `out_queue` first.
    pub out_queues: Vec<Arc<str>>,
    /// Where an output goes that names no queue: the `out_queue`, if there is one.
    pub default_queue: Option<Arc<str>>,
    /// Whether an instance lives for one message: its start and its call then share the limits of one
    /// message, and the caller starts a new one for each.
    pub fresh: bool,
    /// What the instances count; start with the default.
    pub counters: Arc<Counters>,
}

impl Spec {
    /// Returns the counters of all instances made from this.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How fast the log may grow by what its instances say.
    #[must_use]
    pub fn log_rate(&self) -> LogRate {
        let rates = self.component.loaded().engine.log_rates();
        rates.of(&self.vo, &self.processor, self.limits.log_bytes_per_second)
    }

    /// What a call may send.
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules { limits: &self.limits, out_queues: &self.out_queues, default_queue: self.default_queue.as_ref() }
    }

    /// What a call may use.
    pub(crate) fn message_budget(&self) -> Budget {
        Budget { fuel: self.limits.fuel, time: self.limits.time }
    }

    /// What the start of an instance may use.
    pub(crate) fn start_budget(&self) -> Budget {
        if self.fresh {
            return self.message_budget();
        }
        Budget { fuel: self.limits.init_fuel, time: self.limits.init_time }
    }
}
