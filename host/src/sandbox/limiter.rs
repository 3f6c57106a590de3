//! Bounds the memory and the tables of an instance, and remembers what it refused.
//!
//! Asked by wasmtime whenever a guest grows something; the record is read by [`super::failure`], so
//! that an abort after a refused growth is called by its cause.

use wasmtime::ResourceLimiter;

/// Core instances of one component.
const MAX_CORE_INSTANCES: usize = 100;
/// Tables of one component.
const MAX_TABLES: usize = 32;
/// Memories of one component.
const MAX_MEMORIES: usize = 4;

/// A refused growth: what the instance would have had, in bytes or elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The sum that was asked for.
    pub(crate) wanted: usize,
    /// The limit.
    pub(crate) limit: usize,
}

/// One sum under one limit.
#[derive(Debug)]
struct Quota {
    used: usize,
    limit: usize,
    /// What the last growth that was allowed added: given back if it fails all the same.
    last: usize,
    refused: Option<Refused>,
}

impl Quota {
    fn new(limit: usize) -> Self {
        Self { used: 0, limit, last: 0, refused: None }
    }

    /// Grows one of the parts from `current` to `desired`, if the sum stays within the limit.
    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let wanted = self.used.saturating_add(desired.saturating_sub(current));
        let allowed = wanted <= self.limit;
        if allowed {
            self.last = wanted - self.used;
            self.used = wanted;
        } else {
            self.refused = Some(Refused { wanted, limit: self.limit });
        }
        allowed
    }

    /// The growth that was allowed last has failed.
    fn undo(&mut self) {
        self.used -= std::mem::take(&mut self.last);
    }
}

/// Whether a part itself may become so large: if not, it fails whatever the limits are.
fn may_be(desired: usize, maximum: Option<usize>) -> bool {
    maximum.is_none_or(|maximum| desired <= maximum)
}

/// The limiter of one store.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory: Quota,
    tables: Quota,
}

impl Limiter {
    /// Creates a limiter over all memories, and over all tables, of an instance.
    pub(crate) fn new(memory_bytes: usize, table_elements: usize) -> Self {
        Self { memory: Quota::new(memory_bytes), tables: Quota::new(table_elements) }
    }

    /// Forgets refusals: a guest that coped with one in an earlier call did not fail by it.
    pub(crate) fn begin(&mut self) {
        self.memory.refused = None;
        self.tables.refused = None;
    }

    /// Returns what the instance has: bytes of memory, elements of tables.
    pub(crate) fn used(&self) -> (usize, usize) {
        (self.memory.used, self.tables.used)
    }

    /// Returns the last refused growth of a memory during this call, in bytes.
    pub(crate) fn refused_memory(&self) -> Option<Refused> {
        self.memory.refused
    }

    /// Returns the last refused growth of a table during this call, in elements.
    pub(crate) fn refused_table(&self) -> Option<Refused> {
        self.tables.refused
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(may_be(desired, maximum) && self.memory.grow(current, desired))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory.undo();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(may_be(desired, maximum) && self.tables.grow(current, desired))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.tables.undo();
        Ok(())
    }

    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::ResourceLimiter as _;

    use super::{Limiter, Refused};

    #[test]
    fn the_sum_of_all_memories_is_bounded() {
        let mut limiter = Limiter::new(100, 10);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert_eq!(limiter.refused_memory(), None);
        assert!(!limiter.memory_growing(60, 61, None).unwrap());
        assert_eq!(limiter.refused_memory(), Some(Refused { wanted: 101, limit: 100 }));
        limiter.begin();
        assert_eq!(limiter.refused_memory(), None);
    }

    #[test]
    fn a_growth_that_fails_costs_nothing() {
        let mut limiter = Limiter::new(100, 10);
        assert!(!limiter.memory_growing(0, 90, Some(50)).unwrap(), "its own maximum");
        assert_eq!((limiter.refused_memory(), limiter.used()), (None, (0, 0)));
        assert!(limiter.memory_growing(0, 90, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        assert_eq!(limiter.used(), (0, 0));
        limiter.memory_grow_failed(wasmtime::Error::msg("said twice")).unwrap();
        assert!(limiter.memory_growing(0, 100, None).unwrap());
        assert!(limiter.table_growing(0, 10, Some(10)).unwrap());
        limiter.table_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        assert_eq!(limiter.used(), (100, 0));
    }

    #[test]
    fn tables_are_bounded_and_absurd_sizes_do_not_overflow() {
        let mut limiter = Limiter::new(100, 10);
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(10, usize::MAX, None).unwrap());
        assert!(limiter.refused_table().is_some());
        assert!(!limiter.memory_growing(0, usize::MAX, None).unwrap());
    }
}
