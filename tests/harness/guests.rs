//! The components of the workspace, built once per test process, as `stompbox build` makes them, and those of
//! WebAssembly text in `tests/raw`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Result, ensure};
use stompbox::commands::build::{DebugInfo, build_crate};

use super::{built, root};

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

/// Module -> file, of every plugin and guest of the workspace.
fn components() -> &'static BTreeMap<String, PathBuf> {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| build(&out_dir()).unwrap_or_else(|error| panic!("the components cannot be built: {error:#}")))
}

fn out_dir() -> PathBuf {
    built().join("test-plugins")
}

fn build(out: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for folder in ["plugins", "tests/guests"] {
        for package in fs::read_dir(root().join(folder))? {
            for file in build_crate(&package?.path(), out, DebugInfo::Names, Stdio::inherit())? {
                let module = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                files.insert(module, file);
            }
        }
    }
    build_raw(out)?;
    for text in fs::read_dir(root().join("tests/raw/guests"))? {
        let module = text?.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(module.clone(), out.join(module).with_extension("wasm"));
    }
    Ok(files)
}

fn build_raw(out: &Path) -> Result<()> {
    let source = root().join("tests/raw");
    let mut raw = Command::new(env!("CARGO"));
    raw.args(["run", "--quiet", "--locked", "--release", "--manifest-path"])
        .arg(source.join("Cargo.toml"))
        .arg("--")
        .arg(source)
        .arg(out);
    let target = built();
    let done = raw.env("CARGO_TARGET_DIR", target.parent().unwrap_or(&target)).status()?;
    ensure!(done.success(), "tests/raw ended with {done}");
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
    assert!(component("hostile").exists() && component("table_bomb").exists());
}
