//! The sandbox with real components: each limit obeyed and violated, each answer, each lie.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use stompbox::{
    outcome::{CallError, Outcome},
    sandbox::{
        Called, CompileConfig, Component, Counters, Engine, EngineConfig, Failed, Found, Instance, Kind, Limits,
        LoadError, PluginDirs, Spec, StartError,
    },
};

use crate::harness::{
    call::{self, message},
    compile_config, guests,
};

/// One engine for all tests, as a host has one.
fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| new_engine(None))
}

fn new_engine(cache_dir: Option<PathBuf>) -> Engine {
    Engine::new(EngineConfig { max_instances: 64, compile: CompileConfig { cache_dir, ..compile_config() } }).unwrap()
}

fn bytes(module: &str) -> Vec<u8> {
    fs::read(guests::component(module)).unwrap()
}

/// The `hostile` component, held so that it is compiled once.
fn hostile() -> Component {
    static HOSTILE: OnceLock<Component> = OnceLock::new();
    HOSTILE.get_or_init(|| Component::load(engine(), &bytes("hostile")).unwrap()).clone()
}

/// A processor of `hostile` with small limits: tests wait for them.
fn spec(class: &str) -> Spec {
    let limits = Limits {
        fuel: 50_000_000,
        time: Duration::from_secs(5),
        memory_bytes: 16 << 20,
        init_fuel: 50_000_000,
        init_time: Duration::from_secs(5),
        ..Limits::default()
    };
    Spec { limits, ..call::spec(hostile(), class) }
}

fn start(spec: Spec) -> Instance {
    Instance::start(&Arc::new(spec)).unwrap()
}

fn process(spec: Spec, body: &str) -> Result<Called, Failed> {
    start(spec).process(&message(body), 1)
}

fn failure(class: &str) -> CallError {
    process(spec(class), "spin").unwrap_err().error
}

/// The detail of a failure that has one.
fn detail(error: &CallError) -> &str {
    match error {
        CallError::Trap(detail) | CallError::OutputLimit(detail) | CallError::OutputInvalid(detail) => detail,
        other => panic!("{other:?} has no detail"),
    }
}

#[test]
fn echo_forwards_again_and_again_on_one_instance() {
    let mut instance = start(spec("Echo"));
    for round in 0..1_000 {
        let body = format!("round {round}");
        let called = instance.process(&message(&body), 1).unwrap();
        let Outcome::Ok(outputs) = called.outcome else { panic!("{:?}", called.outcome) };
        assert_eq!((&*outputs[0].queue, &*outputs[0].body), ("out", body.as_bytes()));
        assert!((100..100_000).contains(&called.fuel), "{}", called.fuel);
        assert_eq!(called.unsent, 0);
        instance = called.instance;
    }
    instance.terminate();
}

#[test]
fn without_an_out_queue_the_output_is_counted_and_dropped() {
    let called = process(Spec { default_queue: None, out_queues: Vec::new(), ..spec("Echo") }, "x").unwrap();
    assert_eq!((called.outcome, called.unsent), (Outcome::Ok(Vec::new()), 1));
}

#[test]
fn every_answer_of_a_guest_becomes_its_outcome() {
    let outcome = |class| process(spec(class), "x").unwrap().outcome;
    let Outcome::Retry { reason, delay } = outcome("RetryAlways") else { panic!() };
    assert_eq!((reason.code.as_str(), reason.detail.as_str(), delay), ("always", "attempt 1", None));
    assert!(matches!(outcome("RejectAll"), Outcome::Reject(reason) if reason.code == "never"));
    assert!(matches!(outcome("UnavailableAlways"), Outcome::Unavailable(reason) if reason.code == "away"));
    let third = start(spec("RetryTwice")).process(&message("x"), 3).unwrap();
    assert!(matches!(third.outcome, Outcome::Ok(outputs) if outputs.len() == 1));
}

#[test]
fn a_spinning_guest_ends_at_its_fuel() {
    let failed = process(spec("Spin"), "x").unwrap_err();
    assert_eq!(failed, Failed { error: CallError::Fuel { used: 50_000_000, limit: 50_000_000 }, fuel: 50_000_000 });
}

#[test]
fn a_spinning_guest_with_fuel_ends_at_its_deadline_neither_early_nor_late() {
    for time in [1, 20, 300].map(Duration::from_millis) {
        // A busy machine delays the clock's thread, so the best of a few tries counts.
        let late = (0..5).map(|_| lateness(time)).min().unwrap();
        assert!(late < Duration::from_millis(15), "{late:?} late after {time:?}");
    }
}

/// How long after its deadline a spinning guest ended.
fn lateness(time: Duration) -> Duration {
    let limits = Limits { fuel: u64::MAX >> 1, time, ..spec("Spin").limits };
    let instance = start(Spec { limits, ..spec("Spin") });
    let begun = Instant::now();
    let failed = instance.process(&message("x"), 1).unwrap_err();
    assert_eq!(failed.error, CallError::Deadline { limit: time });
    begun.elapsed().checked_sub(time).expect("a deadline is never early")
}

#[test]
fn a_sleeping_guest_ends_at_its_deadline() {
    let time = Duration::from_millis(50);
    let limits = Limits { time, ..spec("Sleep").limits };
    let instance = start(Spec { limits, ..spec("Sleep") });
    let begun = Instant::now();
    let failed = instance.process(&message("x"), 1).unwrap_err();
    assert_eq!(failed.error, CallError::Deadline { limit: time });
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn a_deadline_counts_from_the_call_and_not_from_the_start_of_the_instance() {
    let limits = Limits { time: Duration::from_millis(100), ..spec("Echo").limits };
    for fresh in [false, true] {
        let instance = start(Spec { limits: limits.clone(), fresh, ..spec("Echo") });
        // The lane waits for a message meanwhile.
        std::thread::sleep(Duration::from_millis(150));
        assert!(instance.process(&message("x"), 1).is_ok(), "fresh: {fresh}");
    }
}

#[test]
fn a_fresh_instance_starts_and_works_within_the_fuel_of_one_message() {
    let warm = process(spec("Echo"), "x").unwrap().fuel;
    let fresh = process(Spec { fresh: true, ..spec("Echo") }, "x").unwrap().fuel;
    assert!(fresh > warm, "{fresh} includes the start, {warm} does not");
    // Enough for the call alone, not for both; the start pays first.
    let limits = Limits { fuel: fresh - warm / 2, ..spec("Echo").limits };
    let failed = process(Spec { fresh: true, limits: limits.clone(), ..spec("Echo") }, "x").unwrap_err();
    assert_eq!(failed.error, CallError::Fuel { used: limits.fuel, limit: limits.fuel });
    assert!(process(Spec { limits, ..spec("Echo") }, "x").is_ok());
}

#[test]
fn memory_is_bounded_and_named() {
    let limit_bytes = 16 << 20;
    let CallError::Memory { wanted_bytes, limit_bytes: told } = failure("MemoryBomb") else { panic!() };
    assert!(wanted_bytes > limit_bytes);
    assert_eq!(told, limit_bytes);
}

#[test]
fn a_component_larger_than_its_memory_limit_does_not_start() {
    let limits = Limits { memory_bytes: 64 << 10, ..spec("Echo").limits };
    let error = Instance::start(&Arc::new(Spec { limits, ..spec("Echo") })).unwrap_err();
    assert!(matches!(error, StartError::Failed(CallError::Memory { .. })), "{error:?}");
}

#[test]
fn a_component_larger_than_its_table_limit_does_not_start() {
    let limits = Limits { table_elements: 1, ..spec("Echo").limits };
    let error = Instance::start(&Arc::new(Spec { limits, ..spec("Echo") })).unwrap_err();
    assert!(matches!(error, StartError::Failed(_)), "{error:?}");
}

#[test]
fn too_many_outputs_are_refused() {
    let limits = Limits { fuel: 1_000_000_000, memory_bytes: 64 << 20, ..spec("OutputFlood").limits };
    let failed = process(Spec { limits, ..spec("OutputFlood") }, "x").unwrap_err();
    assert_eq!(failed.error, CallError::OutputLimit("100000 outputs, the limit is 1000".to_owned()));
}

#[test]
fn too_large_outputs_are_refused() {
    let sized = |output_bytes| Spec { limits: Limits { output_bytes, ..spec("Echo").limits }, ..spec("Echo") };
    let body = "x".repeat(3 << 20);
    assert!(process(sized(3 << 20), &body).is_ok());
    let error = process(sized((3 << 20) - 1), &body).unwrap_err().error;
    assert_eq!(error, CallError::OutputLimit("3145728 bytes of outputs, the limit is 3145727".to_owned()));
    // So much that it is not even copied.
    let error = process(sized(1 << 20), &body).unwrap_err().error;
    assert_eq!(error.code(), "output-limit", "{error:?}");
}

#[test]
fn headers_of_the_host_and_undeclared_queues_are_refused_by_name() {
    let error = failure("BadHeader");
    assert_eq!(error.code(), "output-invalid");
    assert_eq!(detail(&error), "output 0: header `destination` belongs to the host");
    let error = failure("BadQueue");
    assert_eq!(error.code(), "output-invalid");
    assert_eq!(detail(&error), "output 0: queue `undeclared` is not one that this processor may send to");
}

#[test]
fn a_panic_is_a_trap_that_tells_its_message() {
    let error = failure("Panic");
    assert_eq!(error.code(), "trap");
    assert!(detail(&error).contains("no message pleases me, not even m-1"), "{error}");
    assert!(detail(&error).contains("crashes.rs:"), "the place is named: {error}");
    assert!(!detail(&error).contains('\n'), "{error}");
}

#[test]
fn an_endless_recursion_is_a_trap() {
    let error = failure("StackOverflow");
    assert_eq!(error.code(), "trap");
    assert_eq!(detail(&error), "call stack exhausted in hostile::crashes::descend");
}

#[test]
fn a_neighbour_works_on_after_a_trap() {
    let instance = start(spec("Echo"));
    assert_eq!(failure("TrapOnce").code(), "trap");
    assert!(instance.process(&message("x"), 1).is_ok());
}

#[test]
fn a_flood_of_log_lines_is_cut_and_counted() {
    let counters = Arc::new(Counters::default());
    let limits = Limits { fuel: 1_000_000_000, log_bytes: 1 << 10, ..spec("LogFlood").limits };
    let called = process(Spec { limits, counters: Arc::clone(&counters), ..spec("LogFlood") }, "x").unwrap();
    assert!(matches!(called.outcome, Outcome::Ok(_)));
    assert!(counters.dropped_log_bytes() > 5_000_000, "{counters:?}");
    // Each call and each byte costs fuel.
    assert!(called.fuel > 10_000 * (500 + 700), "{}", called.fuel);
}

#[test]
fn initialize_is_bounded_and_its_refusal_told() {
    let error = |class| Instance::start(&Arc::new(spec(class))).unwrap_err();
    assert_eq!(error("InitFails"), StartError::Initialize("it never initializes".to_owned()));
    assert_eq!(error("SpinInit"), StartError::Failed(CallError::Fuel { used: 50_000_000, limit: 50_000_000 }));
    let time = Duration::from_millis(50);
    let limits = Limits { init_fuel: u64::MAX >> 1, init_time: time, ..spec("SpinInit").limits };
    let error = Instance::start(&Arc::new(Spec { limits, ..spec("SpinInit") })).unwrap_err();
    assert_eq!(error, StartError::Failed(CallError::Deadline { limit: time }));
}

#[test]
fn params_reach_initialize() {
    let slow = |params: &str| Arc::new(Spec { params: params.to_owned(), ..spec("Slow") });
    assert!(Instance::start(&slow(r#"{"ms": 1}"#)).is_ok());
    assert!(matches!(Instance::start(&slow("null")), Err(StartError::Initialize(text)) if text.contains("ms")));
}

/// An engine with a pool of one.
fn small_engine() -> Engine {
    Engine::new(EngineConfig { max_instances: 1, compile: CompileConfig { cache_dir: None, ..compile_config() } })
        .unwrap()
}

#[test]
fn beyond_the_pool_instances_are_made_on_demand_within_the_same_limits() {
    let component = Component::load(&small_engine(), &bytes("hostile")).unwrap();
    let spec = |class: &str| Arc::new(Spec { component: component.clone(), ..spec(class) });
    let first = Instance::start(&spec("Echo")).unwrap();
    let others: Vec<Instance> = (0..20).map(|_| Instance::start(&spec("Echo")).unwrap()).collect();
    for instance in others {
        let called = instance.process(&message("x"), 1).unwrap();
        assert!(matches!(called.outcome, Outcome::Ok(outputs) if &*outputs[0].body == b"x"));
    }
    let error = |class: &str| Instance::start(&spec(class)).unwrap().process(&message("x"), 1).unwrap_err().error;
    assert_eq!(error("Spin").code(), "fuel");
    assert_eq!(error("MemoryBomb").code(), "memory");
    assert_eq!(error("Panic").code(), "trap");
    let time = Duration::from_millis(50);
    let limits = Limits { fuel: u64::MAX >> 1, time, ..spec("Spin").limits.clone() };
    let spinning = Instance::start(&Arc::new(Spec { limits, component: component.clone(), ..self::spec("Spin") }));
    assert_eq!(spinning.unwrap().process(&message("x"), 1).unwrap_err().error, CallError::Deadline { limit: time });
    assert!(first.process(&message("x"), 1).is_ok());
}

#[test]
fn a_component_describes_itself_where_the_pool_is_full() {
    let engine = small_engine();
    let hostile = Component::load(&engine, &bytes("hostile")).unwrap();
    let _first = Instance::start(&Arc::new(Spec { component: hostile.clone(), ..spec("Echo") })).unwrap();
    assert!(hostile.describe().is_ok());
}

/// A process may have 65,530 memory maps (vm.max_map_count).
#[test]
fn a_large_pool_and_its_instances_take_few_memory_maps() {
    let maps = || fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let before = maps();
    let compile = CompileConfig { cache_dir: None, ..compile_config() };
    let engine = Engine::new(EngineConfig { max_instances: 4_000, compile }).unwrap();
    let pool = maps() - before;
    let component = Component::load(&engine, &bytes("hostile")).unwrap();
    let spec = Arc::new(Spec { component, ..spec("Echo") });
    let before = maps();
    let instances: Vec<Instance> = (0..200).map(|_| Instance::start(&spec).unwrap()).collect();
    let each = (maps() - before) / instances.len();
    println!("a pool of 4,000 instances takes {pool} maps, an instance {each}");
    // Other tests run meanwhile, and take some too.
    assert!(pool < 2_000, "{pool}");
    assert!(each <= 10, "{each}");
}

#[test]
fn absurd_numbers_of_instances_are_an_error_and_large_ones_are_not() {
    let engine = |max_instances| {
        Engine::new(EngineConfig { max_instances, compile: CompileConfig { cache_dir: None, ..compile_config() } })
    };
    assert!(engine(4_000).is_ok());
    for max_instances in [16_385, u32::MAX] {
        let told = engine(max_instances).unwrap_err().to_string();
        assert!(told.contains(&max_instances.to_string()), "{told}");
    }
}

#[test]
fn a_component_says_what_it_offers_and_the_nearest_to_a_wrong_name() {
    let component = hostile();
    assert_eq!(component.kind(), Kind::Handler);
    assert_eq!(component.digest().len(), 64);
    assert!(component.imports().iter().any(|name| name == "stompbox:processor/host@0.1.0"));
    assert_eq!(component.processor("Echo").unwrap().summary, "Forwards each message.");
    let error = component.processor("MemmoryBomb").unwrap_err().to_string();
    assert!(error.contains("it has no processor `MemmoryBomb`"), "{error}");
    assert!(error.ends_with("did you mean `MemoryBomb`?"), "{error}");
}

#[test]
fn a_describe_that_never_returns_ends_with_its_budget() {
    let component = Component::load(engine(), &bytes("spin_describe")).unwrap();
    let LoadError::Describe(cause) = component.describe().unwrap_err() else { panic!() };
    // A slow machine reaches the second before the billion.
    let time = Duration::from_secs(1);
    assert!(
        cause == CallError::Fuel { used: 1_000_000_000, limit: 1_000_000_000 }
            || cause == CallError::Deadline { limit: time },
        "{cause:?}"
    );
    assert!(matches!(component.processor("Any"), Err(LoadError::Describe(_))), "nothing is remembered");
}

#[test]
fn the_same_bytes_are_loaded_once() {
    let first = hostile();
    let begun = Instant::now();
    let second = Component::load(engine(), &bytes("hostile")).unwrap();
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!(first.digest(), second.digest());
}

#[test]
fn what_is_no_component_is_refused_with_advice() {
    let whole = bytes("hostile");
    let error = |bytes: &[u8]| Component::load(engine(), bytes).unwrap_err();
    assert!(error(b"\0asm\x01\0\0\0").to_string().contains("cargo build --release --target wasm32-wasip2"));
    for length in [8, 100, whole.len() / 2, whole.len() - 1] {
        let told = error(&whole[..length]);
        assert!(matches!(told, LoadError::Compile(_) | LoadError::World { .. }), "{length}: {told:?}");
    }
    let empty_component = error(b"\0asm\x0d\0\x01\0");
    assert!(empty_component.to_string().ends_with("it exports nothing"), "{empty_component}");
    let found = Found { bytes: Vec::new(), file: "plugins/x.wasm".into() };
    let told = Component::load_file(engine(), &found).unwrap_err();
    assert_eq!(told.to_string(), "component plugins/x.wasm cannot be loaded");
}

#[test]
fn a_module_is_found_and_loaded() {
    let file = guests::component("hostile");
    let dirs = PluginDirs::open(&[file.parent().unwrap().to_owned()]).unwrap();
    let found = dirs.find("hostile").unwrap();
    assert_eq!(found.file, file);
    assert_eq!(Component::load_file(engine(), &found).unwrap().digest(), hostile().digest());
}
