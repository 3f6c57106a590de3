//! Forwards the task and job statuses that are reported to other services.
//!
//! `table` decides, `field` reads what the decision needs, `route` knows where outputs go; this file joins
//! them. The body is never changed.

mod field;
mod route;
mod table;

use stompbox_sdk::{Context, Error, Message, Output, Processor, log};

pub use route::Route;
pub use table::{Verdict, judge};

/// Returns the raw body of each message whose status is reported.
#[derive(Debug)]
pub struct StatusReport {
    route: Route,
}

impl Processor for StatusReport {
    const NAME: &'static str = "StatusReportMsgProcPlugin";
    const SUMMARY: &'static str = "Forwards task_status and job_status messages whose status is reported";

    fn initialize(context: &Context) -> Result<Self, String> {
        Ok(StatusReport { route: Route::new(context)? })
    }

    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
        let verdict = judge(&message)?;
        if let Verdict::Unknown(msg_type) = &verdict {
            log::warn!(msg_type = msg_type; "unknown msg_type: acknowledged, nothing sent");
        }
        Ok(self.route.outputs(&verdict, message.body))
    }
}

stompbox_sdk::export!(StatusReport);

#[cfg(test)]
mod tests {
    use super::*;
    use stompbox_sdk::log::Level;
    use stompbox_sdk::testing;

    fn process(body: &str) -> Result<Vec<Output>, Error> {
        testing::start::<StatusReport>("null").unwrap().process(testing::message(body))
    }

    #[test]
    fn a_reported_status_is_forwarded_byte_for_byte() {
        let body = " {\"taskid\": 5,\t\"msg_type\":\"task_status\", \"status\":\"done\", \"timestamp\":1}\n";
        assert_eq!(process(body), Ok(vec![Output::new(body)]));
    }

    #[test]
    fn another_status_is_acknowledged() {
        assert_eq!(process(r#"{"msg_type":"task_status","taskid":5,"status":"exhausted"}"#), Ok(vec![]));
    }

    #[test]
    fn an_unknown_type_is_acknowledged_with_a_warning() {
        assert_eq!(process(r#"{"msg_type":"get_job","taskid":5}"#), Ok(vec![]));
        let logs = testing::take_logs();
        assert_eq!((logs.len(), logs[0].level), (1, Level::Warn));
        assert_eq!(logs[0].fields, [("msg_type".to_owned(), "get_job".to_owned())]);
    }

    #[test]
    fn a_bad_body_is_rejected() {
        let error = process("hello").unwrap_err();
        assert!(matches!(error, Error::Reject(reason) if reason.code == "invalid-json"));
    }
}
