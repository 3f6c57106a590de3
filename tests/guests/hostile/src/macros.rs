//! The shape that nearly all of these processors share: no state, one function of the message.

/// Makes a processor of a name, what it does, and a function from message to outputs.
macro_rules! processor {
    ($(#[doc = $summary:literal])+ $name:ident: $process:expr) => {
        $(#[doc = $summary])+
        #[derive(Debug)]
        pub struct $name;

        impl stompbox_sdk::Processor for $name {
            const NAME: &'static str = stringify!($name);
            const SUMMARY: &'static str = concat!($($summary),+).trim_ascii();

            fn initialize(_: &stompbox_sdk::Context) -> Result<Self, String> {
                Ok($name)
            }

            fn process(
                &mut self,
                message: stompbox_sdk::Message,
            ) -> Result<Vec<stompbox_sdk::Output>, stompbox_sdk::Error> {
                let process: fn(
                    stompbox_sdk::Message,
                ) -> Result<Vec<stompbox_sdk::Output>, stompbox_sdk::Error> = $process;
                process(message)
            }
        }
    };
}

pub(crate) use processor;
