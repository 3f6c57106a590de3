//! The compiler as the host sees it: a child process with bounded memory, time and priority.
//!
//! Asked by [`super::load`] for the artifact of a component that the cache does not have. The compiler is
//! large, and what it is fed comes from strangers: a component that makes it spin, swell or crash ends the
//! child and not the host. The child's side is [`super::compiler_process`]. It must never compile in this process.

use std::{
    io::{self, Read, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit};

use super::{
    artifact::MAX_ARTIFACT_BYTES,
    compiler_process::{REFUSED, UNBOUNDED},
    text::one_line,
};

/// The hidden subcommand that makes the program a compiler (`crate::cli::Command::Compile`).
const COMPILER_COMMAND: &str = "compile";

/// What compiling one component may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Memory that the compiler writes to, in bytes; reserved addresses do not count (`RLIMIT_DATA`).
    pub memory_bytes: u64,
    /// CPU time of all its threads (`RLIMIT_CPU`), in seconds.
    pub cpu_seconds: u64,
    /// How long it may take, whatever else the machine does.
    pub time: Duration,
}

impl CompileLimits {
    /// What is left of them where this process has less itself: nobody can raise that.
    fn at_most_our_own(self) -> Self {
        let own = |resource, wanted: u64| getrlimit(resource).maximum.map_or(wanted, |own| own.min(wanted));
        // At the hard limit of the CPU time a process is killed without a word: the soft one comes before.
        let cpu_seconds = own(Resource::Cpu, self.cpu_seconds.saturating_add(1)).saturating_sub(1);
        Self { memory_bytes: own(Resource::Data, self.memory_bytes), cpu_seconds, ..self }
    }
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, cpu_seconds: 300, time: Duration::from_secs(900) }
    }
}

/// Size from which the beginning of a compilation is told: some seconds.
const LONG_KB: usize = 2_000;
/// How much of the child's standard error is read.
const MAX_SAID_BYTES: u64 = 16 << 10;
/// The signals of a child that gave up for want of memory, was killed, or used up its CPU time (`signal(7)`).
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    /// The compiler refuses it.
    #[error("{0}")]
    Refused(String),
    /// It is too much work.
    #[error(
        "compiling it takes more than {cpu_seconds} s of CPU time: split its largest functions, or make it smaller"
    )]
    Cpu {
        /// The limit.
        cpu_seconds: u64,
    },
    /// It took too long.
    #[error("compiling it took longer than {} s: is the machine overloaded?", .0.as_secs())]
    Late(Duration),
    /// It needs too much memory.
    #[error("compiling it takes more than {} MiB of memory: split its largest functions", .memory_bytes >> 20)]
    Memory {
        /// The limit.
        memory_bytes: u64,
    },
    /// Somebody ended the compiler: the kernel, mostly, when the machine has no memory left.
    #[error("the compiler was killed: the machine, or the container, has no memory left for it")]
    Killed,
    /// The compiler could not bound itself.
    #[error("the compiler cannot take its limits: {0}")]
    Unbounded(String),
    /// The compiler itself fell over it.
    #[error("the compiler ended by {how}; it said: {said:?}")]
    Crashed {
        /// How it ended.
        how: String,
        /// What it said before.
        said: String,
    },
    /// No compiler could be started.
    #[error("the compiler cannot be run as {}", .program.display())]
    NotRun {
        /// The program that was tried.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The program that compiles.
#[derive(Debug)]
pub(crate) struct Compiler {
    program: PathBuf,
    limits: CompileLimits,
    /// One component at a time: the bounds are those of one child.
    busy: Mutex<()>,
}

/// What a child left behind.
struct Ended {
    status: ExitStatus,
    artifact: io::Result<Vec<u8>>,
    said: String,
    late: bool,
}

impl Compiler {
    /// Takes the program to start; it must be this one, built from the same sources.
    pub(crate) fn new(program: PathBuf, limits: CompileLimits) -> Self {
        Self { program, limits: limits.at_most_our_own(), busy: Mutex::default() }
    }

    /// Returns the artifact of a component, as [`super::compiler_process`] makes it.
    pub(crate) fn compile(&self, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
        let _alone = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let not_run = |source| CompileError::NotRun { program: self.program.clone(), source };
        let began = Instant::now();
        let kb = bytes.len() / 1_000;
        if kb > LONG_KB {
            tracing::info!(kb, "compiling a component: this may take a while");
        }
        let ended = self.start().and_then(|child| feed(child, bytes, self.limits.time)).map_err(not_run)?;
        let artifact = judge(ended, self.limits)?;
        let ms = began.elapsed().as_millis();
        tracing::info!(kb, ms, "component compiled");
        Ok(artifact)
    }

    fn start(&self) -> io::Result<Child> {
        Command::new(&self.program)
            .arg(COMPILER_COMMAND)
            .arg(self.limits.memory_bytes.to_string())
            .arg(self.limits.cpu_seconds.to_string())
            // Nothing of the host's environment is its business, and a key at the terminal is for the host.
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }
}

/// Gives the child the component and takes what it answers, at most for this long.
fn feed(mut child: Child, bytes: &[u8], time: Duration) -> io::Result<Ended> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (answered, answer) = mpsc::channel();
    thread::scope(|scope| {
        // A child that ends early does not read on: how it ended says more than the broken pipe.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(bytes)));
        let said = scope.spawn(move || read(stderr, MAX_SAID_BYTES).unwrap_or_default());
        scope.spawn(move || answered.send(read(stdout, MAX_ARTIFACT_BYTES)));
        let artifact = answer.recv_timeout(time);
        let late = matches!(artifact, Err(RecvTimeoutError::Timeout));
        if late {
            child.kill()?;
        }
        let status = child.wait()?;
        let said = String::from_utf8_lossy(&said.join().unwrap_or_default()).trim().to_owned();
        Ok(Ended { status, artifact: artifact.unwrap_or_else(|_| Ok(Vec::new())), said, late })
    })
}

fn read(pipe: Option<impl Read>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Tells from a child's end whether its answer is an artifact, and if not, what to say to the author.
fn judge(ended: Ended, limits: CompileLimits) -> Result<Vec<u8>, CompileError> {
    let Ended { status, artifact, said, late } = ended;
    let said = one_line(&said, 2 << 10).into_owned();
    match (status.code(), status.signal(), artifact) {
        (Some(0), _, Ok(artifact)) => Ok(artifact),
        (Some(code), ..) if code == i32::from(REFUSED) => Err(CompileError::Refused(said)),
        (Some(code), ..) if code == i32::from(UNBOUNDED) => Err(CompileError::Unbounded(said)),
        (_, Some(SIGKILL), _) if late => Err(CompileError::Late(limits.time)),
        (_, Some(SIGKILL), _) => Err(CompileError::Killed),
        (_, Some(SIGXCPU), _) => Err(CompileError::Cpu { cpu_seconds: limits.cpu_seconds }),
        (_, Some(SIGABRT), _) if said.contains("memory allocation of") => {
            Err(CompileError::Memory { memory_bytes: limits.memory_bytes })
        }
        (Some(0), _, Err(cause)) => Err(CompileError::Crashed { how: format!("a broken pipe: {cause}"), said }),
        _ => Err(CompileError::Crashed { how: status.to_string(), said }),
    }
}
