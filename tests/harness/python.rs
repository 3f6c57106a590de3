//! The Python senders: what users of PanDA send with today.

use std::{
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
};

use anyhow::{Context, Result, ensure};

use super::{
    broker::{PASSCODE, USERNAME},
    root,
};

/// Runs a script of tests/python in the prepared environment; an error holds what it wrote.
pub fn run(script: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(interpreter()?)
        .arg(root().join("tests/python").join(script))
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{script}: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// Sends one message a line with `send_stomp.py` or `send_panda.py`; returns when the broker has them.
pub fn send(script: &str, address: SocketAddr, destination: &str, lines: &[String]) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    for line in lines {
        writeln!(file, "{line}")?;
    }
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let path = file.path().to_str().context("the path of a temporary file is text")?;
    run(script, &[&host, &port, USERNAME, PASSCODE, destination, path])?;
    Ok(())
}

/// Reads that many messages of a queue with PanDA's listener class, acknowledges them as PanDA's agent does, and
/// returns their bodies.
pub fn listen(address: SocketAddr, destination: &str, count: usize) -> Result<Vec<String>> {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let said = run("listen_panda.py", &[&host, &port, USERNAME, PASSCODE, destination, &count.to_string()])?;
    Ok(said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// The environment's Python, made at the first use if `tests/run` has not made it.
fn interpreter() -> Result<PathBuf> {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = READY.get() {
        return Ok(path.clone());
    }
    let setup = root().join("tests/python/setup.sh");
    let made = Command::new(&setup).output().context("tests/python/setup.sh cannot be run")?;
    ensure!(made.status.success(), "no Python environment: {}", String::from_utf8_lossy(&made.stderr));
    let path = Command::new(&setup).arg("path").output()?;
    let path = PathBuf::from(String::from_utf8(path.stdout)?.trim()).join("bin/python");
    Ok(READY.get_or_init(|| path).clone())
}
