//! The macros that make a component of processors.
//!
//! They expand in the author's crate, so everything they name goes through [`crate::rt`].

/// Makes a component of one or several [`Processor`](crate::Processor)s; the `name` of the configuration
/// picks among them. Called once in a crate: `stompbox_sdk::export!(First, Second);`
#[macro_export]
macro_rules! export {
    ($($processor:ty),+ $(,)?) => {
        const _: () = {
            $crate::__component!($($crate::rt::Entry::processor::<$processor>()),+);
            #[cfg(target_family = "wasm")]
            $crate::rt::handler::__export_handler!(Component with_types_in $crate::rt::handler);
        };
    };
}

/// Makes a component of one or several [`Source`](crate::Source)s; the `name` of the configuration picks
/// among them. Called once in a crate.
#[macro_export]
macro_rules! export_source {
    ($($source:ty),+ $(,)?) => {
        const _: () = {
            $crate::__component!($($crate::rt::Entry::source::<$source>()),+);
            #[cfg(target_family = "wasm")]
            $crate::rt::timer::__export_timer!(Component with_types_in $crate::rt::timer);
        };
    };
}

/// The half that both kinds of component share.
#[doc(hidden)]
#[macro_export]
macro_rules! __component {
    ($($entry:expr),+) => {
        enum Component {}
        impl $crate::rt::Component for Component {
            const VERSION: &'static str = env!("CARGO_PKG_VERSION");
            const ENTRIES: &'static [$crate::rt::Entry] = &[$($entry),+];
        }
        #[cfg(target_family = "wasm")]
        $crate::rt::lifecycle::__export_lifecycle!(Component with_types_in $crate::rt::lifecycle);
    };
}
