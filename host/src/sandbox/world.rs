//! Whether a component speaks the contract: its form, its exports, its imports.
//!
//! Called by [`super::component`] when a component is loaded. It looks only at names; functions and
//! types are checked by linking. It must never run anything.

use wasmtime::component::Component;

use super::{load_error::LoadError, lookup::MAX_COMPONENT_BYTES, text::one_line};

/// What a component is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It handles messages of an in queue.
    Handler,
    /// It works by the clock.
    Timer,
}

/// The version of the contract that this host speaks.
const VERSION: &str = "0.1.0";
const LIFECYCLE: &str = "stompbox:processor/lifecycle";
const HANDLER: &str = "stompbox:processor/handler";
const TIMER: &str = "stompbox:processor/timer";
const WANTED: &str = "stompbox:processor/lifecycle@0.1.0 and exactly one of \
                      stompbox:processor/handler@0.1.0 and stompbox:processor/timer@0.1.0";

/// The packages, in their compatible versions, of which this host has all interfaces.
const OFFERED: [&str; 7] = [
    "stompbox:processor/@0.1",
    "wasi:cli/@0.2",
    "wasi:clocks/@0.2",
    "wasi:filesystem/@0.2",
    "wasi:io/@0.2",
    "wasi:random/@0.2",
    "wasi:sockets/@0.2",
];

/// Checks that the bytes look like a component, and says what they are if not.
pub(crate) fn check_form(bytes: &[u8]) -> Result<(), LoadError> {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let what = match bytes {
        _ if size > MAX_COMPONENT_BYTES => "larger than 64 MB",
        // A component's version and layer; a module's version.
        [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => return Ok(()),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => "a core WebAssembly module",
        [b'\0', b'a', b's', b'm', _, _, _, _, ..] => "WebAssembly of a version that this host does not know",
        [] => "an empty file",
        [b'\0', b'a', b's', ..] => "a truncated WebAssembly file",
        [0x7f, b'E', b'L', b'F', ..] => "a native program or library",
        _ if bytes.trim_ascii_start().starts_with(b"(") => "WebAssembly text",
        _ => "something else",
    };
    Err(LoadError::NotComponent { what: what.to_owned() })
}

/// Finds out what a component is for.
pub(crate) fn kind(component: &Component) -> Result<Kind, LoadError> {
    let names = names(component.component_type().exports(component.engine()));
    kind_of(&names)
}

/// Returns the names of what a component imports, all of which this host has.
pub(crate) fn imports(component: &Component) -> Result<Vec<String>, LoadError> {
    let names = names(component.component_type().imports(component.engine()));
    let missing: Vec<String> = names.iter().filter(|name| !is_offered(name)).cloned().collect();
    if missing.is_empty() { Ok(names) } else { Err(LoadError::Imports { names: missing }) }
}

fn names<'a, T>(items: impl Iterator<Item = (&'a str, T)>) -> Vec<String> {
    items.map(|(name, _)| one_line(name, 200).into_owned()).collect()
}

fn kind_of(exports: &[String]) -> Result<Kind, LoadError> {
    let has = |interface: &str| exports.iter().any(|name| is_version(name, interface));
    let problem = match (has(LIFECYCLE), has(HANDLER), has(TIMER)) {
        (true, true, false) => return Ok(Kind::Handler),
        (true, false, true) => return Ok(Kind::Timer),
        (_, true, true) => "it has both a handler and a timer".to_owned(),
        _ => wrong_version(exports).unwrap_or_else(|| "it lacks one of them".to_owned()),
    };
    let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
    Err(LoadError::World { wanted: WANTED, problem, exports: one_line(&exports, 2_000).into_owned() })
}

/// Names the export of the contract that has a version which this host does not speak.
fn wrong_version(exports: &[String]) -> Option<String> {
    let ours = |name: &&String| name.starts_with("stompbox:processor/");
    let other = exports.iter().filter(ours).find_map(|name| {
        let (interface, version) = name.split_once('@')?;
        (!is_version(name, interface)).then_some(version)
    })?;
    Some(format!("it is made for version {other} of the contract and this host speaks {VERSION}"))
}

/// Whether a name is this interface in a version that is compatible with ours: 0.1 and any patch.
fn is_version(name: &str, interface: &str) -> bool {
    name.strip_prefix(interface)
        .and_then(|rest| rest.strip_prefix("@0.1."))
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_offered(name: &str) -> bool {
    let Some((path, version)) = name.split_once('@') else { return false };
    let Some((package, _)) = path.split_once('/') else { return false };
    OFFERED.iter().filter_map(|offer| offer.split_once("/@")).any(|(offered, prefix)| {
        package == offered && version.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::{Kind, LoadError, check_form, is_offered, kind_of};

    fn what(bytes: &[u8]) -> String {
        match check_form(bytes) {
            Ok(()) => "a component".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn bytes_that_are_no_component_are_named() {
        let cases: [(&[u8], &str); 8] = [
            (b"\0asm\x0d\0\x01\0", "a component"),
            (b"", "it is an empty file"),
            (b"\0asm\x01\0\0\0", "it is a core WebAssembly module"),
            (b"\0asm\x63\0\0\0", "it is WebAssembly of a version"),
            (b"\0asm\x0d\0", "it is a truncated WebAssembly file"),
            (b"\x7fELF\x02", "it is a native program or library"),
            (b"\n (component)", "it is WebAssembly text"),
            (b"#!/usr/bin/env python", "it is something else"),
        ];
        for (bytes, start) in cases {
            let told = what(bytes);
            assert!(told.starts_with(start), "{told}");
            assert!(start == "a component" || told.contains("`stompbox build DIR`"), "{told}");
        }
    }

    fn kind(exports: &[&str]) -> Result<Kind, String> {
        let exports: Vec<String> = exports.iter().map(|e| format!("stompbox:processor/{e}")).collect();
        kind_of(&exports).map_err(|error: LoadError| error.to_string())
    }

    #[test]
    fn exactly_one_entry_is_wanted() {
        assert_eq!(kind(&["lifecycle@0.1.0", "handler@0.1.0"]), Ok(Kind::Handler));
        assert_eq!(kind(&["lifecycle@0.1.3", "timer@0.1.3"]), Ok(Kind::Timer));
        let both = kind(&["lifecycle@0.1.0", "handler@0.1.0", "timer@0.1.0"]).unwrap_err();
        assert!(both.contains("both a handler and a timer"), "{both}");
        let lacks = kind(&["handler@0.1.0"]).unwrap_err();
        assert!(lacks.contains("it lacks one of them; it exports stompbox:processor/handler@0.1.0"));
        assert!(kind(&[]).unwrap_err().ends_with("it exports nothing"));
    }

    #[test]
    fn another_version_of_the_contract_is_named() {
        let told = kind(&["lifecycle@0.2.0", "handler@0.2.0"]).unwrap_err();
        assert!(told.contains("made for version 0.2.0 of the contract and this host speaks 0.1.0"));
        assert!(kind(&["lifecycle@0.1.0-draft", "handler@0.1.0"]).is_err());
    }

    #[test]
    fn offered_imports_are_those_of_compatible_versions() {
        for name in ["stompbox:processor/host@0.1.0", "wasi:io/poll@0.2.6", "wasi:cli/stdout@0.2.0"] {
            assert!(is_offered(name), "{name}");
        }
        for name in ["wasi:http/types@0.2.0", "wasi:io/poll@0.3.0", "wasi:io/poll@0.21.0", "env", "a@0.2.0"] {
            assert!(!is_offered(name), "{name}");
        }
    }
}
