//! `admin/openapi.json` says what the host does: each route, each answer, each field.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};
use stompbox::{
    control::{ControlError, Request, What},
    stage::{GenerationReport, LaneReport, StageReport},
};

use super::{Desk, ask, change};
use crate::{
    harness::{
        host::{Host, One},
        root,
        target::Target,
    },
    operate,
};

fn document() -> Value {
    let text = fs::read_to_string(root().join("host/src/admin/openapi.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What is wrong with a value: a field that is missing, of another type, or not in the document.
fn differences(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = document.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name} is not there"));
        return differences(document, target, value, at);
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let fits = |kind: &&str| match *kind {
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("{at}: what is {other}?"),
    };
    if !kinds.iter().any(fits) {
        return vec![format!("{at}: {value} is not of {kinds:?}")];
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return vec![format!("{at}: {value} is not in {}", schema["enum"])];
    }
    let items = value.as_array().into_iter().flatten().enumerate();
    let mut found: Vec<_> = items
        .flat_map(|(at_item, item)| differences(document, &schema["items"], item, &format!("{at}[{at_item}]")))
        .collect();
    found.extend(members(document, schema, value, at));
    found
}

fn members(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let (Some(members), Some(_)) = (value.as_object(), schema.get("properties").or(schema.get("additionalProperties")))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, value) in members {
        match schema["properties"].get(name).or(schema.get("additionalProperties")) {
            Some(schema) => found.extend(differences(document, schema, value, &format!("{at}.{name}"))),
            None => found.push(format!("{at}.{name} is not in the document")),
        }
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    found.extend(required.filter(|name| !members.contains_key(*name)).map(|name| format!("{at}.{name} is missing")));
    found
}

/// Checks a value against a schema of the document.
fn assert_is(value: &Value, schema: &str) {
    let document = document();
    let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
    assert_eq!(differences(&document, &schema, value, ""), Vec::<String>::new(), "{value:#}");
}

/// What answers with which status, as the document says it.
fn assert_answers(method: &str, path: &str, (status, answer): (u16, Value)) {
    let document = document();
    let operation = &document["paths"][path][method];
    let mut response = &operation["responses"][status.to_string()];
    if let Some(name) = response["$ref"].as_str() {
        response = document.pointer(name.trim_start_matches('#')).unwrap();
    }
    let schema = &response["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{method} {path} does not say that it answers {status}: {answer}");
    assert_eq!(differences(&document, schema, &answer, ""), Vec::<String>::new(), "{method} {path}");
}

#[test]
fn the_document_names_each_route_and_no_other() {
    let code = fs::read_to_string(root().join("host/src/admin/api.rs")).unwrap();
    let routes: BTreeSet<(String, String)> = code
        .split(".route(\"")
        .skip(1)
        .map(|rest| {
            let (path, rest) = rest.split_once("\", ").unwrap();
            (path.to_owned(), rest.split_once('(').unwrap().0.to_owned())
        })
        .collect();
    assert_eq!(routes.len(), 10);
    let document = document();
    let paths = document["paths"].as_object().unwrap().iter();
    let documented: BTreeSet<(String, String)> = paths
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())))
        .collect();
    assert_eq!(routes, documented);
    let desk = Desk::answering(&[], |_| Ok(vec![]));
    assert_eq!(ask(desk.address, "GET /v1/openapi.json", ""), (200, document));
}

#[test]
fn each_route_answers_as_documented() {
    let desk = Desk::answering(&["one"], |request| match request {
        Request::Reload { processor: Some(_) } => Err(ControlError::Refused("it is broken".into())),
        Request::RollBack { to: Some(_), .. } => Err(ControlError::Unknown("there is no generation 9".into())),
        Request::Drain => Err(ControlError::Ending),
        _ => Ok(vec![change("one", What::OnTrial, "a canary"), change("", What::Unchanged, "")]),
    });
    desk.audit.record("file", &change("one", What::RolledBack, "it traps"));
    for (path, methods) in document()["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let (verb, own) = (method.to_uppercase(), path.replace("{name}", "one"));
            assert_answers(method, path, ask(desk.address, &format!("{verb} {own}"), ""));
            if *method == "post" {
                assert_answers(method, path, ask(desk.address, &format!("{verb} {own}"), "[]"));
            }
        }
    }
    let rollback = "/v1/processors/{name}/rollback";
    assert_answers("post", rollback, ask(desk.address, "POST /v1/processors/one/rollback", "{\"to\": 9}"));
    let other = "/v1/processors/{name}";
    assert_answers("get", other, ask(desk.address, "GET /v1/processors/other", ""));
    assert_answers("get", "/v1/audit", ask(desk.address, "GET /v1/audit?last=-1", ""));
}

/// A host at work, with all that it has.
#[test]
fn the_status_of_a_host_at_work_is_as_documented() {
    let (target, address) = (Target::embedded(), operate::admin());
    let mut one = One::new(&target, "Count", json!({}));
    one.config["admin"] = json!({"listen": address});
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["a", "b", "c"]).unwrap();
    host.wait_ended("one", 3);
    let (status, answer) = ask(address, "GET /v1/status", "");
    assert_eq!((status, &answer["ready"]), (200, &json!(true)), "{answer:#}");
    assert_is(&answer, "Status");
    let (processor, queue) = (&answer["processors"][0], &answer["queues"][0]);
    assert_eq!((&processor["name"], &processor["in_queue"]), (&json!("one"), &json!("in")));
    assert_eq!((&processor["messages"]["forwarded"], &processor["guest"]["counters"]["seen"]), (&json!(3), &json!(3)));
    assert!(processor["latency"]["p99_us"].as_u64() >= processor["latency"]["p50_us"].as_u64(), "{processor}");
    assert_eq!((&queue["name"], &queue["server"], &queue["waiting"]), (&json!("in"), &json!("mb"), &json!(0)));
    let connections = answer["servers"][0]["connections"].as_array().unwrap();
    assert_eq!(connections.len(), 3, "{answer:#}");
    let consume = connections.iter().find(|connection| connection["purpose"] == "consume").unwrap();
    assert_eq!(consume["addresses"], json!([{"address": target.address.to_string(), "up": true}]));
    let alone = ask(address, "GET /v1/processors/one", "").1;
    assert_eq!(alone["messages"], processor["messages"]);
    assert_is(&alone, "Processor");
}

#[test]
fn generations_and_lanes_are_told_as_documented() {
    let generation = GenerationReport {
        number: 3,
        digest: "0".repeat(64),
        version: "1.2".into(),
        file: "a.wasm".into(),
        standing: "on-trial",
        since_ms: 1,
        calls: 2,
        traps: 3,
        timeouts: 4,
        rejects: 5,
        outputs: 6,
        median_us: 7,
        reason: String::new(),
        trial_percent: 8,
    };
    let lane = LaneReport { number: 0, generation: 3, doing: "processing", for_ms: 9 };
    let stage = StageReport { paused: true, generations: vec![generation], lanes: vec![lane] };
    let told = serde_json::to_value(stage).unwrap();
    assert_is(&told["generations"][0], "Generation");
    assert_is(&told["lanes"][0], "Lane");
    let document = document();
    let documented = document["components"]["schemas"]["Processor"]["properties"].as_object().unwrap();
    assert!(told.as_object().unwrap().keys().all(|key| documented.contains_key(key)), "{told}");
}
