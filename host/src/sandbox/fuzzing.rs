//! Where fuzzers enter: what crosses the boundary from strangers, as functions of plain bytes.
//!
//! Called by the targets of `host/fuzz`, and with seeded random bytes by the tests below. A panic, or a promise that
//! is broken, is a finding. Not part of the host.
#![allow(clippy::indexing_slicing, clippy::panic, reason = "a finding is a panic")]

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{
    allocation::{Allocation, Linked},
    artifact::Artifact,
    bindings::stompbox::processor::types::{Failure, Output, Reason, RetryRequest},
    lines::Lines,
    lookup::PluginDirs,
    output::{self, Answer, Rules},
    text::nearest,
    world,
};
use crate::{
    outcome::Outcome,
    sandbox::Limits,
    stomp::{is_reserved, wrong_value},
};

/// A component's bytes, through everything between its file and its first instance: form, compiler, lines of the
/// source, artifact, world, linking. Returns how far it came.
pub fn component(bytes: &[u8]) -> &'static str {
    static ALLOCATION: OnceLock<Option<Allocation>> = OnceLock::new();
    let Some(allocation) = ALLOCATION.get_or_init(|| Allocation::on_demand().ok()) else { return "no engine" };
    let lines = Lines::of(bytes);
    if world::check_form(bytes).is_err() {
        return "no component";
    }
    let Ok(code) = allocation.wasmtime.precompile_component(bytes) else { return "not compiled" };
    let mut artifact = Vec::new();
    assert!(Artifact { code, lines: lines.clone() }.write(&mut artifact).is_ok());
    let Some(read) = Artifact::read(&artifact) else { panic!("an artifact is read as it was written") };
    assert_eq!(read.lines, lines);
    let Ok(loaded) = allocation.deserialize(read.code) else { panic!("what was compiled can be loaded") };
    let (Ok(kind), Ok(_)) = (world::kind(&loaded), world::imports(&loaded)) else { return "another world" };
    match allocation.link(&loaded, kind) {
        Ok(Linked { .. }) => "loaded",
        Err(_) => "not linked",
    }
}

/// Bytes as the cache might return them, had they its checksum: an artifact or none, never a crash.
pub fn artifact(bytes: &[u8]) -> bool {
    let Some(artifact) = Artifact::read(bytes) else { return false };
    for offset in [0, 1, bytes.len(), usize::MAX] {
        let _ = artifact.lines.find(offset);
    }
    true
}

/// An answer made of these bytes, validated: what passes keeps all rules for outputs.
pub fn outputs(bytes: &[u8]) -> bool {
    let limits = Limits { outputs: 4, output_bytes: 4 << 10, ..Limits::default() };
    let queues: [Arc<str>; 2] = ["out".into(), "more".into()];
    let default_queue = bytes.first().is_some_and(|byte| byte & 1 == 0).then(|| &queues[0]);
    let rules = Rules { limits: &limits, out_queues: &queues, default_queue };
    let Ok(checked) = output::check(Bytes(bytes).answer(), rules) else { return false };
    match checked.outcome {
        Outcome::Ok(outputs) => {
            assert!(outputs.len() <= 4);
            let sizes = outputs.iter().map(|output| {
                output.body.len() + output.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
            });
            assert!(sizes.sum::<usize>() <= 4 << 10);
            outputs.iter().for_each(keeps_the_rules);
        }
        Outcome::Retry { reason, delay } => {
            assert!(delay.is_none_or(|delay| delay <= Duration::from_secs(7 * 86_400)));
            is_harmless(&reason);
        }
        Outcome::Reject(reason) | Outcome::Unavailable(reason) => is_harmless(&reason),
    }
    true
}

fn keeps_the_rules(output: &crate::outcome::Output) {
    assert!(["out", "more"].contains(&&*output.queue));
    assert!(output.headers.len() <= 64);
    for (name, value) in &output.headers {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        assert!((1..=64).contains(&name.len()) && name.bytes().all(plain), "{name:?}");
        assert!(value.len() <= 1 << 10 && !value.contains(char::is_control), "{value:?}");
        assert!(!is_reserved(name, value) && wrong_value(name, value).is_none(), "{name:?}: {value:?}");
        assert!(!["destination", "receipt", "transaction", "ack"].contains(&&*name.to_lowercase()), "{name:?}");
    }
}

fn is_harmless(reason: &crate::outcome::Reason) {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    assert!((1..=64).contains(&reason.code.len()) && reason.code.bytes().all(word), "{reason:?}");
    assert!(reason.detail.len() <= 1 << 10 && !reason.detail.contains(char::is_control), "{reason:?}");
}

/// A module and a word of these bytes, looked up: what is found is a file of the plugin directory, and what is nearest is
/// a word that is known. Returns whether there was a file.
pub fn lookup(bytes: &[u8]) -> bool {
    static PLUGINS: OnceLock<Option<(tempfile::TempDir, PluginDirs)>> = OnceLock::new();
    let Some((folder, plugins)) = PLUGINS.get_or_init(|| lay_out().ok()) else { panic!("no directory for the test") };
    let word = String::from_utf8_lossy(bytes);
    let known = ["ForwardingMsgProcPlugin", "StatusReportMsgProcPlugin", "", "é"];
    assert!(nearest(&word, known).is_none_or(|nearest| known.contains(&nearest)));
    match plugins.find(&word) {
        Ok(found) => {
            let real = found.file.canonicalize().unwrap_or_default();
            let inside = folder.path().join("plugins").canonicalize().is_ok_and(|inside| real.starts_with(inside));
            assert!(inside && found.bytes == INSIDE, "{word:?} leads to {}", real.display());
            true
        }
        Err(error) => {
            let told = error.to_string();
            assert!(!told.contains(|c: char| c.is_control()), "{told:?}");
            false
        }
    }
}

const INSIDE: &[u8] = b"a component";

/// A directory of plugins with modules, links out of it and a FIFO, and a file beside it.
fn lay_out() -> std::io::Result<(tempfile::TempDir, PluginDirs)> {
    let folder = tempfile::tempdir()?;
    let (plugins, outside) = (folder.path().join("plugins"), folder.path().join("outside"));
    for inside in [&plugins, &plugins.join("panda"), &outside] {
        std::fs::create_dir(inside)?;
    }
    for module in ["a.wasm", "panda/b.wasm", "x.y.wasm"] {
        std::fs::write(plugins.join(module), INSIDE)?;
    }
    std::fs::write(outside.join("secret.wasm"), b"outside")?;
    std::os::unix::fs::symlink("../outside/secret.wasm", plugins.join("link.wasm"))?;
    std::os::unix::fs::symlink(&outside, plugins.join("out"))?;
    let (fifo, rights) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, plugins.join("fifo.wasm"), fifo, rights, 0)?;
    let opened = PluginDirs::open(&[plugins]).map_err(std::io::Error::other)?;
    Ok((folder, opened))
}

/// Bytes from which an answer is read; zeros when they are used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = usize::from(self.byte()) << (self.byte() % 5);
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    fn reason(&mut self) -> Reason {
        Reason { code: self.text(), detail: self.text() }
    }

    fn output(&mut self) -> Output {
        let queue = (self.byte() & 1 == 1).then(|| self.text());
        let headers = (0..self.byte() % 70).map(|_| (self.text(), self.text())).collect();
        Output { queue, headers, body: self.bytes(), extra: Vec::new() }
    }

    fn answer(&mut self) -> Answer {
        match self.byte() % 8 {
            0 => Err(Failure::Retry(RetryRequest {
                reason: self.reason(),
                delay_ms: Some(u64::from(self.byte()) << (self.byte() % 57)),
            })),
            1 => Err(Failure::Reject(self.reason())),
            2 => Err(Failure::Unavailable(self.reason())),
            3 => Err(Failure::Other(self.text())),
            _ => Ok((0..self.byte() % 6).map(|_| self.output()).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::{Lines, artifact, component, lookup, outputs};
    use crate::seeds::{files, mutated};

    /// Random bytes, of which many are small, as lengths and choices are.
    fn random(rng: &mut Rng) -> Vec<u8> {
        let length = rng.usize(..300);
        (0..length).map(|_| if rng.bool() { rng.u8(..8) } else { rng.u8(..) }).collect()
    }

    #[test]
    fn outputs_that_pass_keep_the_rules() {
        let mut rng = Rng::with_seed(5);
        let passed = (0..200_000).filter(|_| outputs(&random(&mut rng))).count();
        assert!((20_000..190_000).contains(&passed), "{passed} of 200,000 pass: neither all nor none");
    }

    #[test]
    fn whatever_the_cache_returns_is_an_artifact_or_none() {
        let mut whole = Vec::new();
        super::Artifact { code: b"code".to_vec(), lines: Lines::default() }.write(&mut whole).unwrap();
        assert!(artifact(&whole));
        let mut rng = Rng::with_seed(5);
        for _ in 0..100_000 {
            let mut bytes = if rng.bool() { random(&mut rng) } else { whole.clone() };
            if !bytes.is_empty() {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
            }
            artifact(&bytes);
        }
    }

    #[test]
    fn bytes_that_are_no_component_are_refused() {
        assert_eq!(component(b""), "no component");
        // An empty component has neither of the exports.
        assert_eq!(component(b"\0asm\x0d\0\x01\0"), "another world");
        let mut rng = Rng::with_seed(5);
        for _ in 0..2_000 {
            let bytes = [b"\0asm\x0d\0\x01\0".to_vec(), random(&mut rng)].concat();
            assert_ne!(component(&bytes), "loaded");
        }
    }

    #[test]
    fn no_module_leads_out_of_the_plugin_directory() {
        let (seeds, mut rng) = (files("lookup"), Rng::with_seed(6));
        let found = seeds.iter().filter(|bytes| lookup(bytes)).count();
        assert!((3..seeds.len()).contains(&found), "{found} of {} names are modules", seeds.len());
        (0..20_000).for_each(|_| {
            lookup(&mutated(&mut rng, &seeds));
        });
    }
}
