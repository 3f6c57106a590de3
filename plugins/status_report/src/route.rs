//! Where outputs go: the out queue, and queues that get a copy of every status.
//!
//! Made once from the context; called for each message after the table has decided.

use serde::Deserialize;
use stompbox_sdk::{Context, Output, log};

use crate::table::Verdict;

/// The `params` of the configuration.
#[derive(Deserialize)]
struct Params {
    /// What PanDA's agent loads into the same process; nothing here can.
    #[serde(default)]
    forwarding_plugins: Option<Vec<String>>,
    /// Queues that get a copy of every task and job status, reported or not.
    #[serde(default)]
    copy_to: Vec<String>,
}

/// The destinations of one processor.
#[derive(Debug)]
pub struct Route {
    has_out_queue: bool,
    copy_to: Vec<String>,
}

impl Route {
    /// Reads `params`, and warns of what will not happen.
    ///
    /// # Errors
    /// What is wrong with `params`.
    pub fn new(context: &Context) -> Result<Self, String> {
        let Params { forwarding_plugins, copy_to } = context.params()?;
        if let Some(unknown) = copy_to.iter().find(|name| !context.out_queues.contains(name)) {
            return Err(format!("params: `copy_to` names `{unknown}`, which is not among the `out_queues`"));
        }
        let plugins = forwarding_plugins.unwrap_or_default().join(", ");
        if !plugins.is_empty() {
            log::warn!(
                "params.forwarding_plugins ({plugins}) is not carried out: a processor cannot load others; \
                 name a queue for them in `out_queues` and in params.copy_to"
            );
        }
        // The out queue comes first; without one the first is a queue for copies.
        let has_out_queue = context.out_queues.first().is_some_and(|first| !copy_to.contains(first));
        if !has_out_queue && copy_to.is_empty() {
            log::warn!("no `out_queue` is configured: messages are acknowledged and go nowhere");
        }
        Ok(Route { has_out_queue, copy_to })
    }

    /// The outputs for one message. The body is moved into the last one.
    #[must_use]
    pub fn outputs(&self, verdict: &Verdict, body: Vec<u8>) -> Vec<Output> {
        if matches!(verdict, Verdict::Unknown(_)) {
            return Vec::new();
        }
        let copy = |name: &String| Output::new(body.as_slice()).queue(name);
        let mut outputs: Vec<Output> = self.copy_to.iter().map(copy).collect();
        if self.has_out_queue && *verdict == Verdict::Report {
            outputs.push(Output::new(body));
        }
        outputs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stompbox_sdk::testing;

    fn context(out_queues: &[&str], params: &str) -> Context {
        let out_queues = out_queues.iter().map(|name| (*name).to_owned()).collect();
        Context { out_queues, ..testing::context("StatusReportMsgProcPlugin", params) }
    }

    fn route(out_queues: &[&str], params: &str) -> Route {
        Route::new(&context(out_queues, params)).unwrap()
    }

    #[test]
    fn the_out_queue_gets_what_is_reported() {
        let route = route(&["out"], "null");
        assert_eq!(route.outputs(&Verdict::Report, b"x".to_vec()), [Output::new("x")]);
        assert_eq!(route.outputs(&Verdict::Filter, b"x".to_vec()), []);
        assert_eq!(testing::take_logs(), []);
    }

    #[test]
    fn copies_are_not_filtered() {
        let route = route(&["out", "feed"], r#"{"copy_to": ["feed"]}"#);
        let copy = Output::new("x").queue("feed");
        assert_eq!(route.outputs(&Verdict::Report, b"x".to_vec()), [copy.clone(), Output::new("x")]);
        assert_eq!(route.outputs(&Verdict::Filter, b"x".to_vec()), [copy]);
        assert_eq!(route.outputs(&Verdict::Unknown("y".into()), b"x".to_vec()), []);
    }

    #[test]
    fn without_an_out_queue_only_copies_are_sent() {
        let feed = route(&["feed"], r#"{"copy_to": ["feed"]}"#);
        assert_eq!(feed.outputs(&Verdict::Report, b"x".to_vec()), [Output::new("x").queue("feed")]);
        assert_eq!(testing::take_logs(), []);
        let none = route(&[], "null");
        assert_eq!(none.outputs(&Verdict::Report, b"x".to_vec()), []);
        assert!(testing::take_logs()[0].text.starts_with("no `out_queue` is configured"));
    }

    #[test]
    fn forwarding_plugins_are_warned_of() {
        for none in ["{}", r#"{"forwarding_plugins": null}"#, r#"{"forwarding_plugins": []}"#] {
            let _ = route(&["out"], none);
            assert_eq!(testing::take_logs(), []);
        }
        let _ = route(&["out"], r#"{"forwarding_plugins": ["kafka"]}"#);
        assert!(testing::take_logs()[0].text.starts_with("params.forwarding_plugins (kafka) is not carried out"));
    }

    #[test]
    fn wrong_params_are_named() {
        let error = Route::new(&context(&["out"], r#"{"copy_to": ["fede"]}"#)).unwrap_err();
        assert_eq!(error, "params: `copy_to` names `fede`, which is not among the `out_queues`");
        let error = Route::new(&context(&["out"], r#"{"copy_to": "feed"}"#)).unwrap_err();
        assert!(error.starts_with("params: `copy_to`: invalid type: string \"feed\", expected a sequence"), "{error}");
    }
}
