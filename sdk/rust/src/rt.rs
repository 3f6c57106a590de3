//! What stands between the generated exports and an author's struct: not for authors.
//!
//! [`export!`](crate::export) fills a table of entries; an instance is one entry, started once by
//! `initialize`. The host runs one call at a time and never uses an instance again after a trap, so one
//! cell per thread holds all the state there is.

use std::cell::RefCell;

pub use crate::bindings::{handler, lifecycle, timer};

use crate::bindings::handler::stompbox::processor::types::Failure;
use crate::{Context, Error, Message, Output, Processor, Source};
use handler::exports::stompbox::processor::handler::Guest as HandlerGuest;
use lifecycle::exports::stompbox::processor::lifecycle::{Description, Guest as LifecycleGuest, ProcessorInfo};
use timer::exports::stompbox::processor::timer::Guest as TimerGuest;

/// One processor or source that a component offers.
pub struct Entry {
    name: &'static str,
    summary: &'static str,
    start: fn(&Context) -> Result<Live, String>,
}

impl Entry {
    /// The entry of a processor.
    #[must_use]
    pub const fn processor<P: Processor>() -> Self {
        Entry {
            name: P::NAME,
            summary: P::SUMMARY,
            start: |context| Ok(Live::Processor(Box::new(P::initialize(context)?))),
        }
    }

    /// The entry of a source.
    #[must_use]
    pub const fn source<S: Source>() -> Self {
        Entry {
            name: S::NAME,
            summary: S::SUMMARY,
            start: |context| Ok(Live::Source(Box::new(S::initialize(context)?))),
        }
    }
}

/// What the macros know of a component.
pub trait Component {
    /// The version of the author's crate.
    const VERSION: &'static str;
    /// All that it offers.
    const ENTRIES: &'static [Entry];
}

/// The one running processor or source of this instance.
enum Live {
    Processor(Box<dyn LiveProcessor>),
    Source(Box<dyn LiveSource>),
}

trait LiveProcessor {
    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error>;
    fn terminate(&mut self);
}

impl<P: Processor> LiveProcessor for P {
    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
        Processor::process(self, message)
    }

    fn terminate(&mut self) {
        Processor::terminate(self);
    }
}

trait LiveSource {
    fn tick(&mut self) -> Result<Vec<Output>, Error>;
    fn terminate(&mut self);
}

impl<S: Source> LiveSource for S {
    fn tick(&mut self) -> Result<Vec<Output>, Error> {
        Source::tick(self)
    }

    fn terminate(&mut self) {
        Source::terminate(self);
    }
}

thread_local! {
    static LIVE: RefCell<Option<Live>> = const { RefCell::new(None) };
}

impl<C: Component> LifecycleGuest for C {
    fn describe() -> Description {
        let info = |entry: &Entry| ProcessorInfo {
            name: entry.name.to_owned(),
            summary: entry.summary.to_owned(),
            extra: Vec::new(),
        };
        Description {
            version: C::VERSION.to_owned(),
            processors: C::ENTRIES.iter().map(info).collect(),
            extra: Vec::new(),
        }
    }

    fn initialize(context: Context) -> Result<(), String> {
        let Some(entry) = C::ENTRIES.iter().find(|entry| entry.name == context.name) else {
            let names: Vec<&str> = C::ENTRIES.iter().map(|entry| entry.name).collect();
            return Err(format!("there is no processor `{}` here, only {}", context.name, names.join(", ")));
        };
        let live = (entry.start)(&context)?;
        LIVE.set(Some(live));
        Ok(())
    }

    fn terminate() {
        match LIVE.take() {
            Some(Live::Processor(mut processor)) => processor.terminate(),
            Some(Live::Source(mut source)) => source.terminate(),
            None => {}
        }
    }
}

impl<C: Component> HandlerGuest for C {
    fn process(message: Message) -> Result<Vec<Output>, Failure> {
        LIVE.with_borrow_mut(|live| match live {
            Some(Live::Processor(processor)) => processor.process(message).map_err(Failure::from),
            _ => Err(Failure::Other("process was called before initialize".to_owned())),
        })
    }
}

impl<C: Component> TimerGuest for C {
    fn tick() -> Result<Vec<Output>, Failure> {
        LIVE.with_borrow_mut(|live| match live {
            Some(Live::Source(source)) => source.tick().map_err(Failure::from),
            _ => Err(Failure::Other("tick was called before initialize".to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// Numbers its messages.
    struct Count(u32);

    impl Processor for Count {
        const NAME: &'static str = "Count";
        const SUMMARY: &'static str = "Numbers its messages";

        fn initialize(context: &Context) -> Result<Self, String> {
            Ok(Count(context.params()?))
        }

        fn process(&mut self, _: Message) -> Result<Vec<Output>, Error> {
            self.0 += 1;
            if self.0 == 9 {
                return Err(Error::reject("nine", "no nines"));
            }
            Ok(vec![Output::json(&self.0)?])
        }
    }

    /// Does nothing, by the clock.
    struct Idle;

    impl Source for Idle {
        const NAME: &'static str = "Idle";
        const SUMMARY: &'static str = "Does nothing";

        fn initialize(_: &Context) -> Result<Self, String> {
            Ok(Idle)
        }

        fn tick(&mut self) -> Result<Vec<Output>, Error> {
            Ok(vec![])
        }
    }

    enum Both {}

    impl Component for Both {
        const VERSION: &'static str = "1.2.3";
        const ENTRIES: &'static [Entry] = &[Entry::processor::<Count>(), Entry::source::<Idle>()];
    }

    #[test]
    fn a_component_lists_what_it_offers() {
        let description = Both::describe();
        let names: Vec<_> = description.processors.iter().map(|info| info.name.as_str()).collect();
        assert_eq!((description.version.as_str(), names), ("1.2.3", vec!["Count", "Idle"]));
    }

    #[test]
    fn the_name_of_the_context_picks_one() {
        let wrong = Both::initialize(testing::context("Cuont", "null")).unwrap_err();
        assert_eq!(wrong, "there is no processor `Cuont` here, only Count, Idle");
        Both::initialize(testing::context("Idle", "null")).unwrap();
        assert_eq!(Both::tick(), Ok(vec![]));
    }

    #[test]
    fn an_instance_keeps_its_state_until_the_farewell() {
        let early = Failure::Other("process was called before initialize".to_owned());
        assert_eq!(Both::process(testing::message("")), Err(early.clone()));
        Both::initialize(testing::context("Count", "7")).unwrap();
        assert_eq!(Both::process(testing::message("")), Ok(vec![Output::new("8")]));
        assert_eq!(Both::process(testing::message("")), Err(Error::reject("nine", "no nines").into()));
        Both::terminate();
        assert_eq!(Both::process(testing::message("")), Err(early));
    }

    #[test]
    fn a_failed_start_says_why() {
        let why = "params: invalid type: string \"x\", expected u32 at line 1 column 3";
        assert_eq!(Both::initialize(testing::context("Count", "\"x\"")), Err(why.to_owned()));
    }
}
