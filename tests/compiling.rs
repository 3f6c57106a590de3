//! Compiling: in a process of its own with bounds of its own, once, into a cache that is trusted only whole.

use std::{ffi::OsStr, fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio, sync::Arc, time::Duration};

use serde_json::json;

use stompbox::{
    commands::build::{DebugInfo, build_crate},
    outcome::CallError,
    sandbox::{CompileConfig, CompileLimits, Component, Engine, EngineConfig, Instance, LoadError},
};

use crate::{
    harness::process::program,
    harness::{
        call::{message, spec},
        compile_config, guests,
        host::wait_until,
        root,
    },
};

fn engine(compile: CompileConfig) -> Engine {
    Engine::new(EngineConfig { max_instances: 4, compile }).unwrap()
}

fn uncached() -> CompileConfig {
    CompileConfig { cache_dir: None, ..compile_config() }
}

fn limited(limits: CompileLimits) -> Engine {
    engine(CompileConfig { limits, ..uncached() })
}

fn bytes(module: &str) -> Vec<u8> {
    fs::read(guests::component(module)).unwrap()
}

/// Why these bytes cannot be compiled.
fn refusal(engine: &Engine, bytes: &[u8]) -> String {
    match Component::load(engine, bytes) {
        Err(LoadError::Compile(cause)) => cause.to_string(),
        other => panic!("{other:?}"),
    }
}

fn unsigned(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A section of a module or a component.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &unsigned(content.len()), content].concat()
}

/// A component with one function of so many additions, all alive at the end.
pub fn bomb(additions: usize) -> Vec<u8> {
    let mut body = vec![0];
    body.extend(std::iter::repeat_n([0x20, 0x00], additions).flatten());
    body.extend(std::iter::repeat_n(0x6a, additions - 1));
    body.push(0x0b);
    let code = [&[1][..], &unsigned(body.len()), &body].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 1, 0x7f, 1, 0x7f]),
        section(3, &[1, 0]),
        section(10, &code),
    ];
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module.concat())].concat()
}

fn name(text: &str) -> Vec<u8> {
    [&[0][..], &unsigned(text.len()), text.as_bytes()].concat()
}

/// A component that exports what the contract wants, as empty interfaces, and imports these, as empty ones.
pub fn importing(imports: &[&str]) -> Vec<u8> {
    let list = |items: Vec<Vec<u8>>| [unsigned(items.len()), items.concat()].concat();
    // Types: one of an interface without functions. Instances: those imported, and an empty one.
    let import = |interface: &&str| [name(interface), vec![0x05, 0]].concat();
    let empty = imports.len() as u8;
    let export = |interface: &&str| [name(interface), vec![0x05, empty, 0]].concat();
    let exports = ["stompbox:processor/lifecycle@0.1.0", "stompbox:processor/handler@0.1.0"];
    [
        b"\0asm\x0d\0\x01\0".to_vec(),
        section(7, &list(vec![vec![0x42, 0]])),
        section(10, &list(imports.iter().map(import).collect())),
        section(5, &list(vec![vec![0x01, 0]])),
        section(11, &list(exports.iter().map(export).collect())),
    ]
    .concat()
}

#[test]
fn imports_that_cannot_be_granted_are_refused_with_what_to_do() {
    let load = |imports: &[&str]| Component::load(&engine(uncached()), &importing(imports)).unwrap_err();
    let wanted = [
        "wasi:clocks/wall-clock@0.2.0",
        "wasi:http/outgoing-handler@0.2.0",
        "wasi:filesystem/types@0.3.0",
        "stompbox:processor/host@0.2.0",
        "acme:secrets/store",
    ];
    let LoadError::Imports { names } = load(&wanted) else { panic!("{:?}", load(&wanted)) };
    assert_eq!(names, &wanted[1..], "a clock is granted");
    let told = load(&wanted).to_string();
    for (name, what_to_do) in [
        (wanted[1], "no configuration grants HTTP"),
        (wanted[2], "build for wasm32-wasip2"),
        (wanted[3], "rebuild it with the SDK of this host"),
        (wanted[4], "build the component without it"),
    ] {
        let (_, rest) = told.split_once(name).expect(name);
        assert!(rest.split(';').next().unwrap().contains(what_to_do), "{name}: {told}");
    }
    let many: Vec<String> = (0..100).map(|number| format!("acme:many/i{number}")).collect();
    let told = load(&many.iter().map(String::as_str).collect::<Vec<_>>()).to_string();
    assert!(told.ends_with("and 80 more") && told.len() < 3_000, "{told}");
}

#[test]
fn a_component_that_needs_too_much_to_compile_is_refused() {
    let most = CompileLimits::default();
    let small = limited(CompileLimits { memory_bytes: 100 << 20, ..most });
    let told = refusal(&small, &bomb(2_500_000));
    assert_eq!(told, "compiling it takes more than 100 MiB of memory: split its largest functions");
    let short = limited(CompileLimits { cpu_seconds: 1, ..most });
    let told = refusal(&short, &bomb(2_500_000));
    assert!(told.starts_with("compiling it takes more than 1 s of CPU time"), "{told}");
    let hasty = limited(CompileLimits { time: Duration::from_millis(50), ..most });
    let told = refusal(&hasty, &bomb(2_500_000));
    assert!(told.starts_with("compiling it took longer than 0 s"), "{told}");
    // The host is as before.
    assert!(Component::load(&small, &bytes("hostile")).is_ok());
}

#[test]
fn nothing_is_compiled_in_the_host_itself() {
    let with = |program: &str| engine(CompileConfig { program: program.into(), ..uncached() });
    let told = refusal(&with("/nowhere/stompbox"), &bytes("hostile"));
    assert_eq!(told, "the compiler cannot be run as /nowhere/stompbox");
    // Another program answers nothing that could be loaded.
    assert_eq!(refusal(&with("/bin/true"), &bytes("hostile")), "the artifact is not whole");
    let told = refusal(&with("/bin/echo"), &bytes("hostile"));
    assert_eq!(told, "the artifact is not whole");
}

#[test]
fn what_the_compiler_refuses_is_told_with_its_place() {
    let whole = bytes("hostile");
    let told = refusal(&engine(uncached()), &whole[..whole.len() / 2]);
    assert!(told.contains("section range") && told.contains("is out of bounds"), "{told}");
    assert!(!told.contains('\n'), "{told}");
}

#[test]
fn a_second_start_does_not_compile_again() {
    let cache = tempfile::tempdir().unwrap();
    let load = || {
        let compile = CompileConfig { cache_dir: Some(cache.path().join("compiled")), ..compile_config() };
        let component = Component::load(&engine(compile), &bytes("hostile")).unwrap();
        assert!(start(component.clone(), "Echo").process(&message("x"), 1).is_ok());
        component.from_cache()
    };
    assert!(!load());
    assert!(load());
    let entry = fs::read_dir(cache.path().join("compiled")).unwrap().next().unwrap().unwrap().path();
    fs::write(&entry, &fs::read(&entry).unwrap()[..1_000]).unwrap();
    assert!(!load(), "a broken entry is compiled again");
    assert!(load(), "and replaced");
}

/// The commands compile as the host does: with an empty cache each needs the compiler.
#[test]
fn every_command_compiles_in_a_child() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.json");
    let hostile = json!({"module": "hostile", "name": "Echo", "in_queue": "in"});
    let text = json!({
        "plugins": [guests::plugins_dir()],
        "mb_servers": {"mb": {"host_port_list": ["127.0.0.1:1"]}},
        "queues": {"in": {"server": "mb", "destination": "/queue/in"}},
        "processors": {"one": hostile}
    });
    fs::write(&config, text.to_string()).unwrap();
    let (hostile, forwarding) = (guests::component("hostile"), root().join("plugins/forwarding"));
    let commands: [&[&OsStr]; 4] = [
        &["inspect".as_ref(), hostile.as_os_str()],
        &["check".as_ref(), "--config".as_ref(), config.as_os_str()],
        &["build".as_ref(), forwarding.as_os_str(), "--out".as_ref(), dir.path().as_os_str()],
        &["demo".as_ref(), "--messages".as_ref(), "10".as_ref(), "--log".as_ref(), "info".as_ref()],
    ];
    for args in commands {
        let cache = tempfile::tempdir().unwrap();
        let mut command = program();
        command.args(args).current_dir(root()).env("XDG_CACHE_HOME", cache.path());
        let output = command.output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {log}");
        assert!(log.contains("component compiled"), "{args:?}: {log}");
    }
}

/// A FIFO would wait for a writer, a device would never end.
#[test]
fn inspect_refuses_what_is_no_regular_file() {
    for file in ["/dev/zero", "/dev/null", "/tmp"] {
        let output = program().args(["inspect", file]).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{file}: {err}");
        assert!(err.contains("is not a regular file"), "{file}: {err}");
    }
}

/// Looked at while it waits for its component.
#[test]
fn the_compiler_bounds_itself() {
    let mut compiler = program();
    let mut child = compiler.args(["compile", "1073741824", "7"]).stdin(Stdio::piped()).spawn().unwrap();
    let process = Path::new("/proc").join(child.id().to_string());
    let read = |file: &str| fs::read_to_string(process.join(file)).unwrap();
    let hard = |limit: &str| {
        let limits = read("limits");
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap().to_owned();
        line.split_whitespace().rev().nth(1).unwrap().to_owned()
    };
    // Its priority is the last thing that it takes: the 19th field of its state, the 17th after the name.
    let nice = || read("stat").rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().to_owned();
    wait_until("the compiler is bounded", || nice() == "10");
    assert_eq!(hard("Max data size"), "1073741824");
    assert_eq!(
        (hard("Max cpu time"), hard("Max file size"), hard("Max core file size")),
        ("8".into(), "0".into(), "0".into())
    );
    drop(child.stdin.take());
    assert!(!child.wait().unwrap().success(), "nothing is no component");
}

#[test]
fn the_compiler_gets_nothing_of_the_hosts_environment() {
    let dir = tempfile::tempdir().unwrap();
    let (script, seen) = (dir.path().join("compiler"), dir.path().join("seen"));
    fs::write(&script, format!("#!/bin/sh\nenv > {}\n", seen.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    refusal(&engine(CompileConfig { program: script, ..uncached() }), &bytes("hostile"));
    let seen = fs::read_to_string(seen).unwrap();
    assert!(!seen.contains("HOME=") && !seen.contains("CARGO"), "{seen}");
}

fn start(component: Component, class: &str) -> Instance {
    Instance::start(&Arc::new(spec(component, class))).unwrap()
}

/// The detail of the trap of a class of `hostile`, built with or without line numbers.
fn trap(class: &str, debug: DebugInfo) -> String {
    // Cargo puts either kind into one place: that the other is made at the same time must not be.
    guests::plugins_dir();
    let out = tempfile::tempdir().unwrap();
    let crate_dir = root().join("tests/guests/hostile");
    let files = build_crate(&crate_dir, out.path(), debug, Stdio::null()).unwrap();
    let component = Component::load(&engine(uncached()), &fs::read(&files[0]).unwrap()).unwrap();
    let failed = start(component, class).process(&message("x"), 1).unwrap_err();
    match failed.error {
        CallError::Trap(detail) => detail,
        other => panic!("{other:?}"),
    }
}

/// The line of a guest's source that contains this text.
fn line_of(file: &str, text: &str) -> usize {
    let source = fs::read_to_string(Path::new(&root()).join(file)).unwrap();
    1 + source.lines().position(|line| line.contains(text)).unwrap()
}

#[test]
fn a_trap_names_function_and_line_where_debug_names_exist() {
    let line = line_of("tests/guests/hostile/src/crashes.rs", "1 => std::process::abort()");
    let told = trap("TrapOnce", DebugInfo::Lines);
    assert!(told.contains(&format!("hostile/src/crashes.rs:{line}")), "{told}");
    let line = line_of("tests/guests/hostile/src/crashes.rs", "descend(black_box(depth");
    let told = trap("StackOverflow", DebugInfo::Lines);
    assert!(
        told.contains(&format!("hostile::crashes::descend (tests/guests/hostile/src/crashes.rs:{line})")),
        "{told}"
    );
    let told = trap("StackOverflow", DebugInfo::Names);
    assert_eq!(told, "call stack exhausted in hostile::crashes::descend", "without line numbers the name stays");
}

/// Seeded, so that a finding can be found again: bytes are changed, cut out and repeated.
#[test]
fn damaged_components_are_refused_or_work_and_never_hurt_the_host() {
    let whole = bytes("spin_describe");
    let engine = engine(uncached());
    let mut random = fastrand::Rng::with_seed(5);
    let mut refused = 0;
    for round in 0..150 {
        let mut damaged = whole.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(8..damaged.len());
            match random.u8(..4) {
                0 => damaged[at] ^= 1 << random.u8(..8),
                1 => damaged[at] = random.u8(..),
                2 => damaged.truncate(at.max(9)),
                _ => drop(damaged.splice(at..at, whole[..random.usize(..64)].to_vec())),
            }
        }
        match Component::load(&engine, &damaged) {
            Ok(component) => drop(component.describe()),
            Err(LoadError::Compile(cause)) => {
                let told = cause.to_string();
                assert!(!told.contains("the compiler ended by"), "round {round}: {told}");
                refused += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 50, "{refused} of 150");
    assert!(Component::load(&engine, &bytes("hostile")).unwrap().describe().is_ok());
}
