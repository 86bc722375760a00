//! Who is answered, and what.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use serde_json::json;

use crate::client::{self, Http, review, review_of};
use crate::guest::{ACCEPTED, ACCEPTED_AT, DENIED, DENIED_AT, respond};
use crate::pki::{Authority, CLIENT};
use crate::stand::{Options, Stand, hand_written};

fn accepting() -> Options {
    Options::guest(&respond(ACCEPTED_AT, ACCEPTED))
}

#[tokio::test]
async fn a_review_is_answered_by_its_uid() {
    let stand = Stand::start(accepting()).await;
    for http in [Http::One, Http::Two] {
        let body = review_of(&json!({"uid": "a-b"}));
        let answer = client::send(stand.address, &stand.client, http, review(body)).await.unwrap();
        assert_eq!(answer.response(), json!({"uid": "a-b", "allowed": true}), "{http:?}");
    }
    stand.guard.policy.store(hand_written(&respond(DENIED_AT, DENIED)).into());
    let response = stand.ask(&json!({"uid": "c"})).await.response();
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("c"), &json!(false)));
    assert!(response.get("patch").is_none());
}

#[tokio::test]
async fn who_is_not_the_api_server_is_not_answered() {
    let stand = Stand::start(accepting()).await;
    let body = || review(review_of(&json!({"uid": "1"})));
    let send = |config| async move { client::send(stand.address, &config, Http::One, body()).await };
    let tls13 = [&rustls::version::TLS13];
    let authority = &stand.authority;
    assert!(send(authority.config(None, &tls13)).await.is_err(), "no certificate");
    let stranger = Authority::new().client(CLIENT);
    assert!(send(authority.config(Some(stranger), &tls13)).await.is_err(), "of another authority");
    let old = authority.config(Some(authority.client(CLIENT)), &[&rustls::version::TLS12]);
    assert!(send(old).await.is_err(), "TLS 1.2");
    let other = send(authority.client_config("kubelet")).await.unwrap();
    assert_eq!(other.status, StatusCode::FORBIDDEN, "of another name");
    assert_eq!(send(authority.client_config(CLIENT)).await.unwrap().status, StatusCode::OK);
    assert_eq!(send(authority.client_config("another")).await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_no_review_is_refused() {
    const LIMIT: usize = 7 << 20;
    let stand = Stand::start(accepting()).await;
    let good = review_of(&json!({"uid": "1"}));
    let request = |method: Method, path: &str, media: &str, body: Bytes| {
        Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media)
            .body(Full::new(body))
            .unwrap()
    };
    let padded = |length: usize| {
        let mut body = good.to_vec();
        body.resize(length, b' ');
        Bytes::from(body)
    };
    let json = "application/json";
    for (what, request, expected) in [
        ("the least", request(Method::POST, "/validate", json, good.clone()), 200),
        (
            "a charset",
            request(Method::POST, "/validate", "application/json; charset=utf-8", good.clone()),
            200,
        ),
        ("the longest", request(Method::POST, "/validate", json, padded(LIMIT)), 200),
        ("longer", request(Method::POST, "/validate", json, padded(LIMIT + 1)), 413),
        ("another path", request(Method::POST, "/", json, good.clone()), 404),
        ("another method", request(Method::PUT, "/validate", json, good.clone()), 405),
        ("another type", request(Method::POST, "/validate", "application/yaml", good.clone()), 415),
        ("nothing", request(Method::POST, "/validate", json, Bytes::new()), 400),
        ("half of it", request(Method::POST, "/validate", json, good.slice(..20)), 400),
    ] {
        let answer = client::send(stand.address, &stand.client, Http::Two, request).await.unwrap();
        assert_eq!(answer.status.as_u16(), expected, "{what}");
    }
}

#[tokio::test]
async fn a_policy_that_fails_denies_and_says_how_to_get_by() {
    let stand = Stand::start(Options::guest("(unreachable)")).await;
    let response = stand.ask(&json!({"uid": "1"})).await.response();
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(500)));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("broke off") && message.contains("kubectl selfhost guard uninstall"),
        "{message}"
    );
    assert!(stand.guard.metrics.text().contains(r#"selfhost_admission_failures_total{kind="trap"} 1"#));
    stand.guard.policy.store(hand_written(&respond(ACCEPTED_AT, ACCEPTED)).into());
    assert_eq!(stand.ask(&json!({"uid": "2"})).await.response()["allowed"], true, "the next one");
}

#[tokio::test]
async fn health_and_metrics_are_for_everybody() {
    let stand = Stand::start(accepting()).await;
    let get = |path: &'static str| {
        let address = stand.status;
        async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
            let mut text = String::new();
            tokio::time::timeout(Duration::from_mins(1), stream.read_to_string(&mut text))
                .await
                .unwrap()
                .unwrap();
            text
        }
    };
    assert!(get("/livez").await.starts_with("HTTP/1.1 200 "));
    assert!(get("/readyz").await.starts_with("HTTP/1.1 503 "), "nothing was tried yet");
    stand.guard.health.self_test(Ok(()));
    stand.guard.health.certificate(stand.tls.current().validity);
    let ready = get("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.contains("[+] certificate: valid for "), "{ready}");
    stand.ask(&json!({"uid": "1", "operation": "UPDATE", "resource": {"resource": "secrets"}})).await;
    let metrics = get("/metrics").await;
    let line = r#"reviews_total{resource="secrets",operation="UPDATE",outcome="allowed"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    assert!(get("/validate").await.starts_with("HTTP/1.1 404 "));
}
