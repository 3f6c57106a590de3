//! The interface `stompbox:processor/host`: what a guest can ask of the host.
//!
//! Linked once by [`super::engine`]. Every call costs fuel, by the call and by the byte, so that a guest
//! cannot make the host work for nothing. It must never block, and never trust a length or a name.

use wasmtime::{StoreContextMut, Trap, component::Linker};

use super::{bindings::stompbox::processor::host::Level, state::State};

/// What each call costs besides one unit a byte.
const CALL_FUEL: u64 = 500;

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
const FIELD_BYTES: usize = 64;

/// `log: func(level: level, text: string, fields: headers)`.
fn log(
    mut store: StoreContextMut<'_, State>,
    (level, text, fields): (Level, String, Vec<(String, String)>),
) -> wasmtime::Result<()> {
    let bytes =
        fields.iter().fold(text.len(), |sum, (name, value)| sum.saturating_add(FIELD_BYTES + name.len() + value.len()));
    charge(&mut store, bytes)?;
    store.data().log.emit(level, &text, &fields);
    Ok(())
}

/// `counter: func(name: string, add: u64)`.
fn counter(mut store: StoreContextMut<'_, State>, (name, add): (String, u64)) -> wasmtime::Result<()> {
    charge(&mut store, name.len())?;
    store.data().counters.add(&name, add);
    Ok(())
}

/// Takes the price of a host call from the guest's fuel; a guest that cannot pay is out of fuel.
fn charge(store: &mut StoreContextMut<'_, State>, bytes: usize) -> wasmtime::Result<()> {
    let price = CALL_FUEL.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    match store.get_fuel()?.checked_sub(price) {
        Some(left) => store.set_fuel(left),
        None => {
            store.set_fuel(0)?;
            Err(Trap::OutOfFuel.into())
        }
    }
}
