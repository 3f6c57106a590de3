//! The plugin contract as Rust types, generated from `wit/`.
//!
//! One world with both entries, so that handlers and timers share their types; which entry a component
//! really exports is found out by [`super::component`]. Nothing here is written by hand.
#![allow(missing_docs, unreachable_pub, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "../wit",
    inline: "
        package stompbox:host;

        world either {
            import stompbox:processor/host@0.1.0;
            export stompbox:processor/lifecycle@0.1.0;
            export stompbox:processor/handler@0.1.0;
            export stompbox:processor/timer@0.1.0;
        }
    ",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: { default: trappable },
});
