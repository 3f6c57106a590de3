//! The configuration: PanDA's JSON files, unchanged, with our additions.
//!
//! [`Config::load`] turns a file into validated types, or says everything that is wrong with it at
//! once. Called at start and by the commands, always before any socket opens. Each type
//! is in the file of its name, next to its keys and their defaults. Nothing here opens a socket or
//! looks at the files that a configuration names.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;

mod address;
mod budget;
mod connect_options;
mod dead_letters;
mod document;
mod fields;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod numbers;
mod problem;
mod processor;
mod queue;
mod retry;
mod rollout;
mod secret;
mod server;
#[cfg(test)]
mod tests;
mod vo;

use budget::Budget;
use fields::{Fields, Scope};
use problem::Report;
use processor::Known;

pub use problem::{ConfigError, Problem, hint, with_sources};
pub use processor::{InstanceMode, Processor};
pub use queue::{Queue, check_send_header};
pub use secret::Secret;
pub use server::{Connect, Server};
pub use vo::Vo;

pub use crate::client::AckMode;
use crate::sandbox::{MAX_POOLED_INSTANCES, limits::Limits};

/// More than any configuration needs.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Opening a pipe would wait for a writer.
const NO_WAITING: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// A valid configuration: every reference in it leads somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The brokers: `mb_servers`.
    pub servers: BTreeMap<Arc<str>, Arc<Server>>,
    /// The queues on them.
    pub queues: BTreeMap<Arc<str>, Arc<Queue>>,
    /// The processors, disabled ones included; a sender's configuration has none.
    pub processors: BTreeMap<Arc<str>, Arc<Processor>>,
    /// The virtual organisations.
    pub vos: BTreeMap<Arc<str>, Arc<Vo>>,
    /// Directories of components, resolved against the directory of the file.
    pub plugins: Vec<PathBuf>,
    /// Where the host may keep state over a restart.
    pub state_dir: Option<PathBuf>,
    /// Limits of a processor that says nothing; what is given here is also a ceiling.
    pub limits: Limits,
    /// The longest pause between two attempts to connect.
    pub guard_period: Duration,
    /// The page for operators and monitoring.
    pub admin: Option<Admin>,
    /// Bytes of deliveries that may wait in the whole host.
    pub buffer_bytes: usize,
    /// How long a delivery may be held without being processed.
    pub max_hold: Duration,
    /// Instances of the pool; counted from the lanes when not given.
    pub max_instances: Option<u64>,
}

/// Where the host answers operators and monitoring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// A file with the token that /v1 asks for; none: loopback alone, without a login.
    pub token_file: Option<PathBuf>,
}

/// A configuration and what is doubtful about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What works, but probably not as meant.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads a file, with the environment of this process. With `strict`, unknown and duplicate keys
    /// are errors.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read, is not JSON or is not valid.
    pub fn load(file: &Path, strict: bool) -> Result<Loaded, ConfigError> {
        Self::parse(&text_of(file)?, file, strict, &|name| std::env::var(name).ok())
    }

    /// Reads the text of `file`, which is not opened: it is for messages and relative paths.
    ///
    /// # Errors
    /// [`ConfigError`] when the text is not JSON or not a valid configuration.
    pub fn parse(
        text: &str,
        file: &Path,
        strict: bool,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Loaded, ConfigError> {
        let (config, warnings) = read_text(text, file, strict, env, Self::read)?;
        Ok(Loaded { config, warnings })
    }

    /// The processors that are to run: enabled, and so is the queue they read, if any.
    pub fn active_processors(&self) -> impl Iterator<Item = &Arc<Processor>> {
        self.processors.values().filter(|processor| processor.is_active(&self.queues))
    }

    /// The queue of this name.
    ///
    /// # Errors
    /// There is none; the text names the nearest.
    pub fn queue(&self, name: &str) -> Result<&Arc<Queue>, String> {
        let known = self.queues.keys().map(AsRef::as_ref);
        self.queues.get(name).ok_or_else(|| format!("there is no queue {name:?}{}", problem::hint(name, known)))
    }

    fn read(fields: &Fields<'_>) -> Self {
        fields.require("mb_servers");
        fields.require("queues");
        let host = Budget::read(fields, &Budget::default());
        let servers = fields.entries("mb_servers", Server::read);
        let queues = fields.entries("queues", |name, queue| Queue::read(name, queue, &servers));
        let vos = fields.entries("vos", |name, vo| Vo::read(name, vo, &queues, &host));
        let known = Known { queues: &queues, vos: &vos, host: &host };
        let processors = fields.entries("processors", |name, each| Processor::read(name, each, &known));
        let config = Self {
            plugins: fields.files("plugins").unwrap_or_else(|| vec![fields.resolve("plugins")]),
            state_dir: fields.file("state_dir"),
            limits: host.limits(),
            guard_period: fields.seconds("guard_period", 30.0, 0.1..=3_600.0),
            admin: fields.nested("admin", Admin::read).flatten(),
            buffer_bytes: fields.mebibytes("buffer_mb", 512, 1..=1_048_576),
            max_hold: fields.seconds("max_hold_s", 600.0, 1.0..=1_500.0),
            max_instances: fields.number("max_instances", 1..=u64::from(MAX_POOLED_INSTANCES)),
            servers,
            queues,
            processors,
            vos,
        };
        config.check_addresses(fields);
        config.check_instances(fields);
        config.check_durable(fields);
        config
    }

    /// Each lane keeps an instance, beside those that start or end.
    fn check_instances(&self, fields: &Fields<'_>) {
        let lanes: usize = self.active_processors().map(|processor| processor.n_threads).sum();
        if self.max_instances.is_some_and(|max| max < lanes as u64) {
            let message = format!(
                "is less than the {lanes} lanes (n_threads) of the processors, each of which keeps an instance: some \
                 are made on demand, which is slower"
            );
            fields.warn("max_instances", message);
        }
    }

    /// A durable subscription belongs to a client id, which a broker gives to one connection at a time.
    fn check_durable(&self, fields: &Fields<'_>) {
        for server in self.servers.values() {
            let names: std::collections::BTreeSet<_> =
                self.active_processors().filter_map(|processor| processor.in_queue.as_ref()).collect();
            let queues = names.into_iter().filter_map(|name| self.queues.get(name));
            let on_it = queues.filter(|queue| queue.server == server.name && queue.subscription.is_some());
            let durable: Vec<&str> = on_it.map(|queue| queue.name.as_ref()).collect();
            match durable.as_slice() {
                [] if server.client_id.is_some() => {
                    let message = "client_id is not used: no queue that is read from it has a \"subscription\"";
                    fields.warn_at("mb_servers", &server.name, message);
                }
                [] => {}
                [queue, ..] if server.client_id.is_none() => {
                    let message = format!(
                        "its \"subscription\" needs a \"client_id\" in mb_servers.{}, a name of your choice: without \
                         one ActiveMQ forgets the subscription at each reconnect and Artemis refuses it (RabbitMQ \
                         takes any)",
                        server.name
                    );
                    fields.error_at("queues", queue, message);
                }
                [_] => {}
                several => {
                    let message = format!(
                        "the client_id serves one durable subscription, not those of {}: \
                         give each of these queues a server entry of its own, with a client_id of its own",
                        several.join(", ")
                    );
                    fields.error_at("mb_servers", &server.name, message);
                }
            }
        }
    }

    /// Warns of addresses that are not read, where PanDA's code reads all of them.
    fn check_addresses(&self, fields: &Fields<'_>) {
        let read_from = |server: &Server| {
            let queues = self.active_processors().filter_map(|p| self.queues.get(p.in_queue.as_ref()?));
            queues.into_iter().any(|queue| queue.server == server.name)
        };
        for server in self.servers.values() {
            if server.connect.is_none() && server.addresses.len() > 1 && read_from(server) {
                let names: Vec<String> = server.addresses.iter().map(ToString::to_string).collect();
                let message = format!(
                    "one of {}, chosen at random, is read, and the others are not while it is up; \
                     say so with \"connect\": \"any\", or read them all with \"connect\": \"all\"",
                    names.join(", ")
                );
                fields.warn_at("mb_servers", &server.name, message);
            }
        }
    }
}

impl Admin {
    /// Reads the `admin` of a file and nothing else of it: those who ask a host need neither the environment nor the
    /// files that it runs with, and another part may be half written.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read, is not JSON, or its `admin` is not valid.
    pub fn load(file: &Path) -> Result<Option<Self>, ConfigError> {
        let read = |fields: &Fields<'_>| fields.nested("admin", Self::read).flatten();
        match read_text(&text_of(file)?, file, false, &|_| None, read) {
            Ok((admin, _)) => Ok(admin),
            // Of the rest every key is unknown here.
            Err(ConfigError::Invalid { file, problems, .. }) => {
                Err(ConfigError::Invalid { file, problems, warnings: Vec::new() })
            }
            Err(error) => Err(error),
        }
    }

    fn read(fields: &Fields<'_>) -> Option<Self> {
        let listen = fields.required("listen");
        let token_file = fields.file("token_file");
        let address: Option<SocketAddr> = listen.parse().ok();
        match address {
            None if listen.is_empty() => {}
            None => fields.error("listen", "must be address:port, such as \"127.0.0.1:9613\""),
            Some(address) if address.ip().to_canonical().is_loopback() || token_file.is_some() => {}
            Some(_) => fields.warn(
                "listen",
                "can be reached from other machines: /healthz, /readyz and /metrics are open to them, and /v1 answers \
                 nobody until there is a \"token_file\"",
            ),
        }
        address.map(|listen| Self { listen, token_file })
    }
}

/// The text of a file.
fn text_of(file: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { file: file.to_owned(), reason: reason(file, &source), source };
    let bytes = read_regular(file).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        ConfigError::NotUtf8 { file: file.to_owned(), line }
    })
}

/// A pipe or a device would never end.
fn read_regular(file: &Path) -> io::Result<Vec<u8>> {
    let opened = OpenOptions::new().read(true).custom_flags(NO_WAITING).open(file)?;
    if opened.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !opened.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {} MB", MAX_FILE_BYTES >> 20)));
    }
    Ok(bytes)
}

/// Reads the top level of a text with `read`; also what is doubtful about it.
fn read_text<T>(
    text: &str,
    file: &Path,
    strict: bool,
    env: &dyn Fn(&str) -> Option<String>,
    read: impl FnOnce(&Fields<'_>) -> T,
) -> Result<(T, Vec<Problem>), ConfigError> {
    let report = RefCell::new(Report { strict, ..Report::default() });
    let tree = document::read(text, file, &report)?;
    let scope = Scope { base: file.parent().unwrap_or(Path::new("")), env, report: &report };
    let value = Fields::read(String::new(), &tree, &scope, read);
    let Report { problems, warnings, .. } = report.into_inner();
    if problems.is_empty() {
        Ok((value, warnings))
    } else {
        Err(ConfigError::Invalid { file: file.to_owned(), problems, warnings })
    }
}

/// Why a file cannot be read, for a reader who does not know the system's words.
fn reason(file: &Path, error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        _ if file.is_dir() => "it is a directory, not a file".to_owned(),
        _ => error.to_string(),
    }
}
