//! Processors that trap.

use std::hint::black_box;

use stompbox_sdk::{Context, Error, Message, Output, Processor};

use crate::answers::forward;
use crate::macros::processor;

/// How much is asked for at a time.
const CHUNK_BYTES: usize = 1 << 20;

processor! {
    /// Panics on each message.
    Panic: |message| panic!("no message pleases me, not even {}", message.id)
}

processor! {
    /// Traps without a word on attempt 1, then forwards.
    TrapOnce: |message| match message.attempt {
        1 => std::process::abort(),
        _ => forward(message),
    }
}

processor! {
    /// Takes memory and touches it until it is refused.
    MemoryBomb: |_| {
        let mut chunks = Vec::new();
        loop {
            chunks.push(black_box(vec![0xa5_u8; CHUNK_BYTES]));
        }
    }
}

processor! {
    /// Calls itself without end.
    StackOverflow: |message| {
        let depth = descend(message.body.len() as u64);
        forward(message).map(|outputs| black_box((outputs, depth)).0)
    }
}

#[expect(unconditional_recursion, reason = "that is the point")]
#[inline(never)]
fn descend(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    descend(black_box(depth.wrapping_add(1))).wrapping_add(frame.iter().sum())
}

/// Forwards each message, then traps in terminate.
#[derive(Debug)]
pub struct TrapTerminate;

impl Processor for TrapTerminate {
    const NAME: &'static str = "TrapTerminate";
    const SUMMARY: &'static str = "Forwards each message, then traps in terminate.";

    fn initialize(_: &Context) -> Result<Self, String> {
        Ok(TrapTerminate)
    }

    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
        forward(message)
    }

    fn terminate(&mut self) {
        std::process::abort()
    }
}

/// Overwrites its own memory on the first attempt of a message whose body begins with "corrupt", all of it or
/// every hundredth word, and goes on; returns how many messages this instance has seen.
#[derive(Debug)]
pub struct Corrupt {
    seen: Box<u64>,
}

impl Processor for Corrupt {
    const NAME: &'static str = "Corrupt";
    const SUMMARY: &'static str =
        "Overwrites its own memory on the first attempt of a body that begins with \"corrupt\".";

    fn initialize(_: &Context) -> Result<Self, String> {
        Ok(Corrupt { seen: Box::new(0) })
    }

    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
        *self.seen += 1;
        match (message.attempt, message.body.as_slice()) {
            (1, b"corrupt all") => overwrite(1),
            (1, b"corrupt some") => overwrite(100),
            _ => {}
        }
        Ok(vec![Output::new(self.seen.to_string())])
    }
}

/// Overwrites one of so many words of the memory: static data, stack and heap.
#[cfg(target_family = "wasm")]
#[allow(unsafe_code, reason = "only unsafe code can corrupt itself")]
fn overwrite(step: usize) {
    const PAGE_BYTES: usize = 64 << 10;
    let end = core::arch::wasm32::memory_size(0) * PAGE_BYTES;
    for address in (8..end).step_by(8 * step) {
        // SAFETY: none, and that is the point: the address is aligned and within the memory, so nothing outside
        // of the sandbox is reached.
        unsafe { (address as *mut u64).write_volatile(u64::MAX / 3) }
    }
}

#[cfg(not(target_family = "wasm"))]
fn overwrite(step: usize) {
    panic!("one of {step} words would be overwritten: only a sandbox can hold that")
}
