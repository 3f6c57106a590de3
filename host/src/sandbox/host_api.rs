//! The interface `stompbox:processor/host`: what a guest can ask of the host.
//!
//! Linked once by [`super::engine`]. Every call costs fuel, by the call and by the byte, so that a guest
//! cannot make the host work for nothing. It must never block, and never trust a length or a name.

use wasmtime::{
    StoreContextMut, Trap,
    component::{Linker, WasmList, WasmStr},
};

use super::{bindings::stompbox::processor::host::Level, state::State};

/// What each call costs besides one unit a byte.
pub(crate) const CALL_FUEL: u64 = 500;

/// The interface of the contract that the host offers.
const HOST: &str = "stompbox:processor/host@0.1.0";
/// The interface that only has types: it must exist for components that import it.
const TYPES: &str = "stompbox:processor/types@0.1.0";

/// Links the host's functions.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.instance(TYPES)?;
    let mut host = linker.instance(HOST)?;
    host.func_wrap("log", log)?;
    host.func_wrap("counter", counter)
}

/// What a field of a log line costs beside its text: empty ones are not free to the host.
const FIELD_FUEL: u64 = 64;
/// How many fields are looked at; the others are dropped.
const MAX_FIELDS: usize = 100;

/// `log: func(level: level, text: string, fields: headers)`.
fn log(
    mut store: StoreContextMut<'_, State>,
    (level, text, fields): (Level, WasmStr, WasmList<(WasmStr, WasmStr)>),
) -> wasmtime::Result<()> {
    // Nothing is copied before it is paid: a list can have as many members as the memory has room for, and nobody
    // else runs while the host copies.
    charge(&mut store, CALL_FUEL.saturating_add(FIELD_FUEL.saturating_mul(fields.len() as u64)))?;
    let known: Vec<_> = fields.iter(&mut store)?.take(MAX_FIELDS).collect::<wasmtime::Result<_>>()?;
    let known = known.iter().map(|(name, value)| Ok((owned(name, &store)?, owned(value, &store)?)));
    let known = known.collect::<wasmtime::Result<Vec<_>>>()?;
    let text = owned(&text, &store)?;
    let bytes = known.iter().fold(text.len(), |sum, (name, value)| sum + name.len() + value.len());
    charge(&mut store, bytes as u64)?;
    store.data().counters.log_dropped(fields.len() - known.len());
    store.data().log.emit(level, &text, &known);
    Ok(())
}

fn owned(text: &WasmStr, store: &StoreContextMut<'_, State>) -> wasmtime::Result<String> {
    Ok(text.to_str(store)?.into_owned())
}

/// `counter: func(name: string, add: u64)`.
fn counter(mut store: StoreContextMut<'_, State>, (name, add): (String, u64)) -> wasmtime::Result<()> {
    charge(&mut store, CALL_FUEL.saturating_add(name.len() as u64))?;
    store.data().counters.add(&name, add);
    Ok(())
}

/// Takes the price of a host call from the guest's fuel; a guest that cannot pay is out of fuel.
pub(crate) fn charge(store: &mut StoreContextMut<'_, State>, price: u64) -> wasmtime::Result<()> {
    match store.get_fuel()?.checked_sub(price) {
        Some(left) => store.set_fuel(left),
        None => {
            store.set_fuel(0)?;
            Err(Trap::OutOfFuel.into())
        }
    }
}
