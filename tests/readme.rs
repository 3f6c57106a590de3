//! What the README prints, done as a reader would do it.

use std::{fs, path::Path};

use crate::{
    harness::process::program,
    harness::{built, root},
};

/// The code blocks of a section of the README, each with its language, in order.
fn blocks(heading: &str) -> Vec<(String, String)> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, section) = readme.split_once(&format!("\n## {heading}\n")).expect("the section");
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let parts: Vec<&str> = section.split("\n```").collect();
    let code = parts.iter().skip(1).step_by(2).map(|part| part.split_once('\n').expect("a language and its code"));
    code.map(|(language, code)| (language.to_owned(), format!("{code}\n"))).collect()
}

/// The crate of the section "A processor in five minutes", with the SDK's path as it is on this machine.
fn write_crate(dir: &Path) {
    let blocks = blocks("A processor in five minutes");
    let block = |wanted: &str| &blocks.iter().find(|(language, _)| language == wanted).expect(wanted).1;
    let manifest = block("toml");
    assert!(manifest.starts_with("[package]\n"), "a complete file, to be copied as it is:\n{manifest}");
    let sdk = format!("stompbox-sdk = {{ path = {:?} }}", root().join("sdk/rust"));
    let printed = r#"stompbox-sdk = { path = "../stompbox/sdk/rust" }"#;
    assert!(manifest.contains(printed), "{manifest}");
    fs::write(dir.join("Cargo.toml"), manifest.replace(printed, &sdk)).unwrap();
    // The versions that are here already, so that nothing is downloaded.
    fs::copy(root().join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    fs::create_dir(dir.join("src")).unwrap();
    fs::write(dir.join("src/lib.rs"), block("rust")).unwrap();
}

fn run(args: &[&str]) -> String {
    let done = program().args(args).env("CARGO_TARGET_DIR", built().join("readme")).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn the_processor_in_five_minutes_builds_and_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let crate_dir = dir.path().join("site_filter");
    fs::create_dir(&crate_dir).unwrap();
    write_crate(&crate_dir);
    let out = dir.path().join("plugins");
    let said = run(&["build", crate_dir.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert!(said.contains("offers SiteFilter"), "{said}");
    let component = out.join("example.site_filter.wasm");
    let told = run(&["inspect", component.to_str().unwrap()]);
    assert!(told.contains("\n          SiteFilter  Forwards the job statuses of one site\n"), "{told}");
}
