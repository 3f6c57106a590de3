//! Stand-ins for PanDA's processors that are not ported yet: they acknowledge and do nothing else.
//!
//! They exist so that the configurations printed in PanDA's documents run unchanged in the tests. Nothing
//! in production may use them.

use stompbox_sdk::{Context, Error, Message, Output, Processor};

macro_rules! stand_ins {
    ($($name:ident),+ $(,)?) => {
        $(
            #[doc = concat!("Stands in for `", stringify!($name), "`.")]
            #[derive(Debug)]
            pub struct $name;

            impl Processor for $name {
                const NAME: &'static str = stringify!($name);
                const SUMMARY: &'static str = "Stand-in for the tests: acknowledges and does nothing";

                fn initialize(_: &Context) -> Result<Self, String> {
                    Ok($name)
                }

                fn process(&mut self, _: Message) -> Result<Vec<Output>, Error> {
                    Ok(Vec::new())
                }
            }
        )+

        stompbox_sdk::export!($($name),+);
    };
}

stand_ins!(
    AtlasIddsMsgProcPlugin,
    IddsMsgProcPlugin,
    PandaCallbackMsgProcPlugin,
    JediContentsFeederMsgProcPlugin,
    JediJobGeneratorMsgProcPlugin,
);
