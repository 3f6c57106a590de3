//! Who may use /v1.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _};

use serde_json::json;
use stompbox::control::Request;

use super::{Desk, send};
use crate::{
    harness::{guests, host::One, process::Process, process::program, target::Target},
    operate,
};

/// Asks for a pause with these headers; the status and its reason.
fn pause(address: SocketAddr, headers: &str) -> (u16, String) {
    let (status, _, answer) = send(address, &format!("POST /v1/processors/one/pause HTTP/1.1\r\n{headers}"), "");
    (status, answer["error"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn web_pages_cannot_drive_a_host_on_loopback() {
    let desk = Desk::answering(&["one"], |request| {
        assert!(matches!(request, Request::Pause { .. }));
        Ok(vec![])
    });
    for host in ["localhost", "LocalHost:9613", "127.0.0.1:9613", "[::1]:9613"] {
        assert_eq!(pause(desk.address, &format!("Host: {host}")).0, 200, "{host}");
    }
    for (headers, word) in [
        ("Host: localhost\r\nOrigin: http://evil.example.org", "web pages"),
        ("Host: localhost\r\nOrigin: null", "web pages"),
        ("Host: localhost\r\nOrigin: http://localhost:8000", "web pages"),
        ("Host: evil.example.org:9613", "by IP address or as localhost"),
        ("Host: 127.0.0.1.example.org", "by IP address or as localhost"),
    ] {
        let (status, text) = pause(desk.address, headers);
        assert!(status == 403 && text.contains(word), "{headers}: {status} {text}");
    }
}

#[test]
fn token_file_is_asked_for_by_v1_and_read_at_each_request() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| fs::write(file.path(), text).unwrap();
    write("first\n");
    let desk = Desk::open(&["one"], Some(file.path().to_owned()), |asked| {
        let _ = asked.answer.send(Ok(vec![]));
    });
    let bearer = |token: &str| pause(desk.address, &format!("Host: h\r\nAuthorization: Bearer {token}")).0;
    assert_eq!(
        (bearer("first"), bearer("second"), bearer("firs"), bearer("firstt"), bearer("")),
        (200, 401, 401, 401, 401)
    );
    let (status, headers, answer) = send(desk.address, "GET /v1/status HTTP/1.1\r\nHost: localhost", "");
    assert_eq!((status, headers["www-authenticate"].as_str()), (401, "Bearer"), "{answer}");
    assert!(!answer.to_string().contains("first"), "{answer}");
    write("second");
    assert_eq!((bearer("first"), bearer("second")), (401, 200), "a new token counts at once");
    write("");
    assert_eq!((bearer("second"), bearer("")), (503, 503), "nobody rather than everybody");
    for page in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(operate::ask(desk.address, page).0, 200, "{page} is for monitoring");
    }
}

#[test]
fn a_token_file_that_cannot_be_used_is_an_error_before_the_start() {
    let target = Target::embedded();
    let dir = tempfile::tempdir().unwrap();
    let mut one = One::new(&target, "Echo", json!({}));
    one.config["plugins"] = json!([guests::plugins_dir()]);
    one.config["admin"] = json!({"listen": operate::admin(), "token_file": "token"});
    let config = dir.path().join("config.json");
    fs::write(&config, one.config.to_string()).unwrap();
    let check = || {
        let done = program().args(["check", "--config"]).arg(&config).output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, said) = check();
    assert!(
        code == Some(64) && said.contains("admin.token_file: ") && said.contains("there is no such file"),
        "{said}"
    );
    fs::write(dir.path().join("token"), "\n").unwrap();
    let (code, said) = check();
    assert!(code == Some(64) && said.contains("it is empty: write a long random word into it"), "{said}");
    fs::write(dir.path().join("token"), "right\n").unwrap();
    assert_eq!(check().0, Some(0));
}

#[test]
fn a_token_file_that_others_can_read_is_a_warning_at_the_start() {
    let target = Target::embedded();
    for (mode, warned) in [(0o600, false), (0o640, true)] {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        fs::write(&token, "s3cret-token\n").unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
        let mut one = One::new(&target, "Echo", json!({}));
        one.config["admin"] = json!({"listen": operate::admin(), "token_file": token});
        let host = Process::start(dir.path(), &one.config);
        let log = host.log();
        assert_eq!(log.contains("others than its owner may use the token: chmod 600"), warned, "{log}");
        assert!(!log.contains("s3cret-token"), "{log}");
        assert!(host.terminate().success());
    }
}
