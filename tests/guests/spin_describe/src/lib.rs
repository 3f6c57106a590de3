//! A component whose `describe` never returns: the host must refuse it when it is loaded.
//!
//! Made without the SDK, whose macros write `describe` themselves. Natively it is empty.

#[cfg(target_family = "wasm")]
mod component {
    use std::hint::spin_loop;

    use bindings::exports::stompbox::processor::{handler, lifecycle};

    #[allow(
        missing_docs,
        unreachable_pub,
        unsafe_code,
        clippy::all,
        clippy::restriction,
        reason = "generated code; the boundary of a component is raw memory"
    )]
    mod bindings {
        wit_bindgen::generate!({
            path: "../../../wit",
            world: "stompbox:processor/processor@0.1.0",
            generate_all,
        });
        export!(Component with_types_in self);
        use super::Component;
    }

    struct Component;

    impl lifecycle::Guest for Component {
        fn describe() -> lifecycle::Description {
            loop {
                spin_loop();
            }
        }

        fn initialize(_: lifecycle::Context) -> Result<(), String> {
            Ok(())
        }

        fn terminate() {}
    }

    impl handler::Guest for Component {
        fn process(_: handler::Message) -> Result<Vec<handler::Output>, handler::Failure> {
            Ok(Vec::new())
        }
    }
}
