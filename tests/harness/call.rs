//! What a call of a component needs where there is no host around it.

use std::{sync::Arc, time::SystemTime};

use stompbox::{
    delivery::Message,
    sandbox::{Component, Counters, Limits, Spec},
};

/// A processor of a component, with the default limits.
pub fn spec(component: Component, class: &str) -> Spec {
    Spec {
        component,
        class: class.to_owned(),
        processor: "under_test".into(),
        vo: "".into(),
        generation: 1,
        limits: Limits::default(),
        params: "null".to_owned(),
        out_queues: vec!["out".into(), "more".into()],
        default_queue: Some("out".into()),
        fresh: false,
        counters: Arc::new(Counters::default()),
    }
}

/// A message with this body.
pub fn message(body: &str) -> Message {
    Message {
        queue: "in".into(),
        headers: [("message-id", "m-1"), ("destination", "/queue/in"), ("ack", "secret")].into_iter().collect(),
        body: body.to_owned().into(),
        received_at: SystemTime::now(),
        stable_from: None,
    }
}
