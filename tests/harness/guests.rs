//! The components of the workspace, built once per test process.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::root;

/// The file of the component that a configuration names by this `module`.
pub fn component(module: &str) -> PathBuf {
    let known = components();
    known.get(module).cloned().unwrap_or_else(|| panic!("no package names the module {module:?}; known: {known:#?}"))
}

/// The folder that holds all components, as `plugins` in a configuration names it.
pub fn plugins_dir() -> PathBuf {
    components();
    out_dir()
}

/// Module -> file, of every package of the workspace that names modules.
fn components() -> &'static BTreeMap<String, PathBuf> {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| build(&out_dir()).unwrap_or_else(|error| panic!("the components cannot be built: {error:#}")))
}

fn out_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins")
}

/// A package with components: `[package.metadata.stompbox] module = "x"` or `["x", "y"]`.
struct Package {
    name: String,
    modules: Vec<String>,
}

/// Builds all components into `out`. The one place that knows how.
fn build(out: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let metadata = metadata()?;
    let packages = packages(&metadata);
    ensure!(!packages.is_empty(), "no package of the workspace has [package.metadata.stompbox] module = ...");
    let target = Path::new(metadata["target_directory"].as_str().context("no target directory")?);
    cargo_build(&packages)?;
    fs::create_dir_all(out)?;
    let mut files = BTreeMap::new();
    for package in &packages {
        let built = target.join("wasm32-wasip2/release").join(package.name.replace('-', "_")).with_extension("wasm");
        for module in &package.modules {
            let file = out.join(format!("{module}.wasm"));
            copy(&built, &file).with_context(|| format!("cannot copy {}", built.display()))?;
            files.insert(module.clone(), file);
        }
    }
    Ok(files)
}

fn metadata() -> Result<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn packages(metadata: &Value) -> Vec<Package> {
    let all = metadata["packages"].as_array().into_iter().flatten();
    all.filter_map(|package| {
        let modules = match &package["metadata"]["stompbox"]["module"] {
            Value::String(module) => vec![module.clone()],
            Value::Array(modules) => modules.iter().filter_map(|m| m.as_str().map(str::to_owned)).collect(),
            _ => return None,
        };
        Some(Package { name: package["name"].as_str()?.to_owned(), modules })
    })
    .collect()
}

/// One profile for every component: small code starts and compiles faster in the host.
fn cargo_build(packages: &[Package]) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--release", "--locked", "--target", "wasm32-wasip2", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
        .env("CARGO_PROFILE_RELEASE_LTO", "true")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort");
    for package in packages {
        command.args(["--package", &package.name]);
    }
    let output = command.output()?;
    let hint = "is the target there? rustup target add wasm32-wasip2";
    ensure!(output.status.success(), "{}\n{hint}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Copies by a rename, so that a process that reads the old file at this moment is not disturbed.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let partial = tempfile::NamedTempFile::new_in(to.parent().context("a file in a folder")?)?;
    fs::copy(from, partial.path())?;
    partial.persist(to)?;
    Ok(())
}

#[test]
fn components_are_built_and_found() {
    let folder = plugins_dir();
    for module in ["forwarding_msg_processor", "status_report_msg_processor"] {
        let file = component(&format!("pandajedi.jedimsgprocessor.{module}"));
        assert_eq!(file.parent(), Some(folder.as_path()));
        // The preamble of a component: version 13, layer 1.
        assert!(fs::read(&file).unwrap().starts_with(b"\0asm\x0d\0\x01\0"), "{}", file.display());
    }
    assert!(component("hostile").exists());
}
