//! Makes a component of each text in `guests/`: `raw SOURCE OUT`, where SOURCE is the folder of this package.
//!
//! Run by the tests' harness. The folder is an argument, since checkouts may share what cargo built. What a compiler
//! would never produce is written by hand, and all of it stands on one prelude: the memory, the imports and the
//! exports of the contract.

use std::{env, fs, path::Path};

use anyhow::{Context, Result, bail};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

/// What of WASI the guests use, and their world.
const WASI: [&str; 3] =
    [include_str!("../wit/io.wit"), include_str!("../wit/clocks.wit"), include_str!("../wit/random.wit")];
const WORLD: &str = include_str!("../wit/world.wit");

fn main() -> Result<()> {
    let args: Vec<_> = env::args_os().skip(1).collect();
    let [source, out] = args.as_slice() else { bail!("usage: raw SOURCE OUT") };
    let root = Path::new(source);
    let prelude = fs::read_to_string(root.join("prelude.wat"))?;
    let (resolve, world) = world(&root.join("../../wit"))?;
    for guest in fs::read_dir(root.join("guests"))? {
        let path = guest?.path();
        let name = path.file_stem().context("a file without a name")?;
        let text = format!("(module\n{prelude}\n{}\n)", fs::read_to_string(&path)?);
        let component = component(&text, &resolve, world).with_context(|| path.display().to_string())?;
        place(&Path::new(out).join(name).with_extension("wasm"), &component)?;
    }
    Ok(())
}

/// The contract of this repository, with a little of WASI.
fn world(contract: &Path) -> Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    resolve.push_dir(contract)?;
    for wit in WASI {
        resolve.push_str("wasi.wit", wit)?;
    }
    let package = resolve.push_str("world.wit", WORLD)?;
    let world = resolve.select_world(&[package], Some("raw"))?;
    Ok((resolve, world))
}

fn component(text: &str, resolve: &Resolve, world: WorldId) -> Result<Vec<u8>> {
    let mut module = wat::parse_str(text)?;
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().module(&module)?.validate(true).encode()
}

/// Appears whole or not at all: other tests may be reading.
fn place(file: &Path, bytes: &[u8]) -> Result<()> {
    let fresh = file.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&fresh, bytes)?;
    Ok(fs::rename(&fresh, file)?)
}
