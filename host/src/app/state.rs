//! What a host keeps over restarts, where it has a `state_dir`.

use std::{path::Path, sync::Arc};

use crate::{
    admin::Served,
    audit::Audit,
    config,
    control::Control,
    slots::Slots,
    spool::Spool,
    state_dir::{StateDir, StateError},
    status::Board,
};

/// Slots for lanes that are not there yet, beside as many again as there are.
const SPARE_SLOTS: usize = 64;

/// The open `state_dir`; empty where none is configured. Dropped at the end of the host, also of one that
/// leaves at once: what runs then did not kill it.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) spool: Option<Arc<Spool>>,
    pub(super) slots: Option<Arc<Slots>>,
    /// Without a `state_dir` it is in memory alone.
    pub(super) audit: Arc<Audit>,
    _dir: Option<StateDir>,
}

impl State {
    pub(super) fn open(path: Option<&Path>, lanes: usize) -> Result<Self, StateError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let dir = StateDir::open(path)?;
        let unusable = |name: &str| {
            let path = dir.join(name);
            move |source| StateError::Unusable { path, source }
        };
        let spool = Spool::start(dir.join("dead-letters")).map_err(unusable("dead-letters"))?;
        // Lanes come and go with the configuration.
        let slots = Slots::open(&dir.join("slots"), lanes * 2 + SPARE_SLOTS).map_err(unusable("slots"))?;
        let audit = Audit::open(Some(path)).into();
        Ok(Self { spool: Some(spool.into()), slots: Some(slots.into()), audit, _dir: Some(dir) })
    }

    /// What operators see of it.
    pub(super) fn served(&self, board: &Arc<Board>, control: &Control, admin: Option<config::Admin>) -> Served {
        let token_file = admin.and_then(|admin| admin.token_file);
        Served { board: board.clone(), audit: self.audit.clone(), control: control.clone(), token_file }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(slots) = &self.slots {
            slots.end();
        }
    }
}
