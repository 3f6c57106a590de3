//! Processors that trap.

use std::hint::black_box;

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
