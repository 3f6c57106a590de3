//! The code that `wit-bindgen` generates from `wit/`, and nothing else.
//!
//! Both worlds share their lifecycle, so each of the exported interfaces gets a world of its own here;
//! [`export!`](crate::export) and [`export_source!`](crate::export_source) put them together again and
//! the linker merges them into the published world. Only `rt` and the public aliases use this module.

/// Handles messages; also the one place where the shared types and the host's functions are generated.
pub mod handler {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package stompbox:sdk-handler;
            world handler-only {
                import stompbox:processor/host@0.1.0;
                export stompbox:processor/handler@0.1.0;
            }
        ",
        generate_all,
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "__export_handler",
    });
}

/// Describes, begins and ends an instance.
pub mod lifecycle {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package stompbox:sdk-lifecycle;
            world lifecycle-only { export stompbox:processor/lifecycle@0.1.0; }
        ",
        generate_all,
        with: { "stompbox:processor/types@0.1.0": crate::bindings::handler::stompbox::processor::types },
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "__export_lifecycle",
    });
}

/// Works by the clock.
pub mod timer {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package stompbox:sdk-timer;
            world timer-only { export stompbox:processor/timer@0.1.0; }
        ",
        generate_all,
        with: { "stompbox:processor/types@0.1.0": crate::bindings::handler::stompbox::processor::types },
        pub_export_macro: true,
        export_macro_name: "__export_timer",
    });
}
