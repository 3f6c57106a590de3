//! What a call of a component needs where there is no host around it.

use std::{sync::Arc, time::SystemTime};

use stompbox::{
    delivery::Message,
    generation::Generation,
    sandbox::{Component, Counters, Engine, EngineConfig, Limits, Spec},
    stage::{Act, Stage},
};

use super::guests;

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

/// What a processor with one lane runs, from the guest `hostile`.
pub fn stage() -> Arc<Stage> {
    let file = guests::component("hostile");
    let engine = Engine::new(EngineConfig { max_instances: 1, compile: super::compile_config() }).unwrap();
    let component = Component::load(&engine, &std::fs::read(&file).unwrap()).unwrap();
    let generation = Generation { spec: Arc::new(spec(component, "Echo")), file };
    Stage::new(Act::new(generation, "hostile", None), 1, 0, Arc::default(), Box::new(|| {}))
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
