//! WASI 0.2 with nothing granted: no files, sockets, environment or arguments; clocks and randomness
//! work, and nothing blocks beyond the call's deadline.
//!
//! Linked once by [`super::engine`]; [`super::state`] takes a context for each instance. The standard
//! libraries of the guests' languages import all of WASI, so all of it must link, and every request
//! must be denied. It must never grant anything.

use std::{fmt, sync::Arc, time::Instant};

use wasmtime::{
    StoreContextMut,
    component::{HasData, Linker, Resource, ResourceTable},
};
use wasmtime_wasi::{
    WasiCtx,
    p2::{
        self, DynPollable, bindings as async_wasi,
        bindings::{random::random, sync::io::poll},
    },
    random::WasiRandomView as _,
    runtime::in_tokio,
};

use super::{
    guest_log::{GuestLog, GuestStream, Stream},
    host_api::{CALL_FUEL, charge},
    permits::Permit,
    state::State,
};

/// The library's names of what is replaced.
const RANDOM: &str = "wasi:random/random@0.2.12";
const INSECURE: &str = "wasi:random/insecure@0.2.12";

/// The most random bytes that one call gives.
const MAX_RANDOM_BYTES: u64 = 64 << 10;

/// Makes a context that grants nothing; the guest's output goes to its log.
pub(crate) fn nothing_granted(log: &Arc<GuestLog>) -> WasiCtx {
    let stream = |stream| GuestStream { log: Arc::clone(log), stream };
    WasiCtx::builder()
        .stdout(stream(Stream::Stdout))
        .stderr(stream(Stream::Stderr))
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(MAX_RANDOM_BYTES)
        .build()
}

/// Links WASI, with our own `wasi:io/poll` in the place of the library's.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    poll::add_to_linker::<State, BoundedPoll>(linker, |state| Bounded {
        table: &mut state.table,
        deadline: &mut state.deadline,
        permit: &mut state.permit,
    })?;
    // Random bytes are made for nothing: they cost fuel, as what the guest gives the host does.
    linker.instance(RANDOM)?.func_wrap("get-random-bytes", random_bytes)?;
    linker.instance(INSECURE)?.func_wrap("get-insecure-random-bytes", random_bytes)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// `get-random-bytes: func(len: u64) -> list<u8>`, for both interfaces.
fn random_bytes(mut store: StoreContextMut<'_, State>, (length,): (u64,)) -> wasmtime::Result<(Vec<u8>,)> {
    // Too many are refused before any is made.
    let bytes = random::Host::get_random_bytes(store.data_mut().random(), length)?;
    charge(&mut store, CALL_FUEL.saturating_add(bytes.len() as u64))?;
    Ok((bytes,))
}

/// The call's deadline passed while the guest waited.
#[derive(Debug)]
pub(crate) struct DeadlinePassed;

impl fmt::Display for DeadlinePassed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline of the call passed while it waited")
    }
}

impl std::error::Error for DeadlinePassed {}

/// `wasi:io/poll`, the only place where a guest can wait: streams are always ready, standard input is
/// closed, and there are neither files nor sockets.
struct BoundedPoll;

/// What a wait needs: the pollables, and when it must end.
struct Bounded<'a> {
    table: &'a mut ResourceTable,
    deadline: &'a mut Instant,
    permit: &'a mut Option<Permit>,
}

impl HasData for BoundedPoll {
    type Data<'a> = Bounded<'a>;
}

impl Bounded<'_> {
    /// Waits for `ready` on this thread, at most until the deadline; others may run meanwhile.
    fn wait<T>(&mut self, ready: impl AsyncFnOnce(&mut ResourceTable) -> wasmtime::Result<T>) -> wasmtime::Result<T> {
        let (deadline, table) = (*self.deadline, &mut *self.table);
        let lent = self.permit.take().map(Permit::lend);
        let result = in_tokio(async {
            match tokio::time::timeout_at(deadline.into(), ready(table)).await {
                Ok(result) => result,
                Err(_) => Err(DeadlinePassed.into()),
            }
        });
        if let Some(lent) = lent {
            let waiting = Instant::now();
            *self.permit = Some(lent.take_again());
            *self.deadline += waiting.elapsed();
        }
        result
    }
}

impl poll::Host for Bounded<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.wait(async |table| async_wasi::io::poll::Host::poll(table, pollables).await)
    }
}

impl poll::HostPollable for Bounded<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        poll::HostPollable::ready(self.table, pollable)
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.wait(async |table| async_wasi::io::poll::HostPollable::block(table, pollable).await)
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.table, pollable)
    }
}
