//! Who may use /v1: on loopback without a token whoever is on this machine and is no web page, else the bearer of
//! the token.
//!
//! A layer around the routes of [`super::api`]; it never looks at what is asked for.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use tokio::task::spawn_blocking;

use super::{Shared, api::Refusal, token};

/// Lets a request through, or tells why not.
pub(super) async fn admit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let token = match shared.served.token_file.clone() {
        // A file system that hangs must not hang the connections to brokers.
        Some(file) => spawn_blocking(move || Some(token::read_token(&file))).await,
        None => Ok(None),
    };
    let token = token.unwrap_or_else(|error| Some(Err(error.to_string())));
    match check(request.headers(), token, shared.loopback) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check(headers: &HeaderMap, token: Option<Result<String, String>>, loopback: bool) -> Result<(), Refusal> {
    match token {
        Some(token) => by_token(headers, token),
        None if loopback => by_sender(headers),
        None => {
            let text = "this host listens beyond its own machine: set \"token_file\" in its \"admin\"";
            Err(Refusal(StatusCode::FORBIDDEN, text.to_owned()))
        }
    }
}

fn by_token(headers: &HeaderMap, right: Result<String, String>) -> Result<(), Refusal> {
    let right = right.map_err(|error| {
        tracing::error!(%error, "nobody may use /v1: the token cannot be read");
        Refusal(StatusCode::SERVICE_UNAVAILABLE, "the host cannot read its token_file: its log says why".to_owned())
    })?;
    let refuse = |text: &str| Err(Refusal(StatusCode::UNAUTHORIZED, text.to_owned()));
    match text(headers, &header::AUTHORIZATION).split_once(' ') {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") => {
            if token::same(given.trim(), &right) {
                Ok(())
            } else {
                refuse("this is not the token of this host")
            }
        }
        _ => refuse("the token of this host is missing: Authorization: Bearer TOKEN"),
    }
}

/// A page in a browser on this machine could send requests here: it says where it comes from, or comes by a name of
/// its own that leads here.
fn by_sender(headers: &HeaderMap) -> Result<(), Refusal> {
    let refuse = |text: &str| Err(Refusal(StatusCode::FORBIDDEN, text.to_owned()));
    if headers.contains_key(header::ORIGIN) {
        return refuse("web pages may not use this: it answers commands of operators");
    }
    if is_local(text(headers, &header::HOST)) {
        return Ok(());
    }
    refuse("ask by IP address or as localhost, or set \"token_file\" in \"admin\" and use the token")
}

/// Whether the Host header names no name that others could have chosen.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(headers: &[(&'static str, &str)], token: Option<Result<&str, &str>>, loopback: bool) -> u16 {
        let pairs = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let token = token.map(|token| token.map(str::to_owned).map_err(str::to_owned));
        check(&pairs.collect(), token, loopback).map_or_else(|refusal| refusal.0.as_u16(), |()| 200)
    }

    #[test]
    fn beyond_loopback_nobody_is_let_in_without_a_token() {
        let (host, bearer) = (("host", "127.0.0.1:9613"), ("authorization", "Bearer right"));
        assert_eq!(code(&[host, bearer], None, false), 403);
        assert_eq!(code(&[host], None, true), 200);
        for loopback in [true, false] {
            assert_eq!(code(&[host, bearer], Some(Ok("right")), loopback), 200);
            assert_eq!(code(&[host], Some(Ok("right")), loopback), 401);
            assert_eq!(code(&[host, bearer], Some(Ok("other")), loopback), 401);
            assert_eq!(code(&[host, bearer], Some(Err("gone")), loopback), 503, "nobody rather than everybody");
        }
    }

    #[test]
    fn the_bearer_of_the_token_may_come_from_anywhere() {
        for (value, right) in [
            ("Bearer right", 200),
            ("bearer  right ", 200),
            ("Basic right", 401),
            ("right", 401),
            ("Bearer", 401),
            ("Bearer right right", 401),
        ] {
            let far = [("host", "proxy.example.org"), ("origin", "https://example.org"), ("authorization", value)];
            assert_eq!(code(&far, Some(Ok("right")), false), right, "{value}");
        }
    }

    #[test]
    fn web_pages_are_refused_on_loopback() {
        let here = ("host", "localhost:9613");
        for (headers, right) in [
            (vec![here], 200),
            (vec![here, ("origin", "https://evil.example.org")], 403),
            (vec![here, ("origin", "null")], 403),
            (vec![("host", "evil.example.org:9613")], 403),
            (vec![], 403),
        ] {
            assert_eq!(code(&headers, None, true), right, "{headers:?}");
        }
    }

    #[test]
    fn only_addresses_and_localhost_are_local() {
        for host in ["localhost", "LOCALHOST:9613", "127.0.0.1", "127.0.0.1:9613", "[::1]:9613", "[::1]", "10.0.0.1:1"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in ["", ":", "evil.example.org", "evil.example.org:9613", "localhost.evil.org", "1.2.3.4.nip.io:80"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
