//! What changes under load, and what does not.

use std::sync::Arc;

use rustls::ClientConfig;
use selfhost_admission::health::now;
use selfhost_admission::reload::{PolicyFiles, Reloader};
use selfhost_admission::self_test::SelfTest;

use crate::client::{self, Connection, Http, review, review_of};
use crate::guest::{self, ACCEPTED, ACCEPTED_AT, respond};
use crate::load::Load;
use crate::pki::{Authority, CLIENT};
use crate::stand::{Options, Stand, cluster, fixture, module, policy, runtime};
use crate::volume::Volume;

/// A guard with the policy itself, whose files are in volumes.
struct Reloaded {
    stand: Stand,
    reloader: Reloader,
    tls: Volume,
    policy: Volume,
}

impl Reloaded {
    async fn start() -> Self {
        let mut options = Options::of(policy());
        options.source = Arc::new(cluster());
        let stand = Stand::start(options).await;
        let material = stand.authority.material();
        let tls = Volume::new(&[
            ("tls.crt", &material.certificates),
            ("tls.key", &material.key),
            ("ca.crt", &material.client_ca),
        ]);
        let policy = Volume::new(&[("policy.wasm", module()), ("settings.json", b"{}")]);
        let files = PolicyFiles {
            module: policy.path("policy.wasm"),
            settings: Some(policy.path("settings.json")),
            compiled: None,
        };
        let mut reloader = Reloader::new(
            files,
            tls.tls_files(),
            Arc::clone(runtime()),
            SelfTest::embedded(),
            Arc::clone(&stand.guard),
            Arc::clone(&stand.tls),
        );
        reloader.look();
        reloader.check();
        assert!(stand.guard.health.report(now()).ready, "{:?}", stand.guard.health.report(now()));
        Self { stand, reloader, tls, policy }
    }

    fn rotate(&mut self, certificate: &str, key: &str, authorities: &str) {
        let files = [("tls.crt", certificate), ("tls.key", key), ("ca.crt", authorities)];
        self.tls.write(&files.map(|(name, text)| (name, text.as_bytes())));
        self.reloader.look();
    }

    fn set_policy(&mut self, module: &[u8], settings: &str) {
        self.policy.write(&[("policy.wasm", module), ("settings.json", settings.as_bytes())]);
        tokio::task::block_in_place(|| self.reloader.look());
    }

    fn counted(&self, what: &str, result: &str) -> usize {
        let text = self.stand.guard.metrics.text();
        let label = format!(r#"reloads_total{{what="{what}",result="{result}"}} "#);
        text.lines().find_map(|line| line.split_once(&label)).map_or(0, |(_, count)| count.parse().unwrap())
    }

    fn kept_out(&self) -> String {
        let text = self.stand.guard.health.report(now()).text;
        text.lines().filter(|line| line.starts_with("[!]")).collect::<Vec<_>>().join("\n")
    }
}

/// A client that trusts both authorities.
fn client_of(mut config: ClientConfig, first: &Authority, second: &Authority) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for authority in [first, second] {
        roots.add(authority.der()).unwrap();
    }
    let provider = config.crypto_provider().clone();
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    config.dangerous().set_certificate_verifier(verifier.build().unwrap());
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_rotations_under_load_fail_no_review() {
    let mut guard = Reloaded::start().await;
    let next = Authority::new();
    let config = client_of(guard.stand.client.clone(), &guard.stand.authority, &next);
    let body = review_of(&fixture("daemonset-label"));
    let load = Load::start(guard.stand.address, &config, &body, true);
    let both = guard.stand.authority.pem() + &next.pem();
    let before = guard.counted("certificate", "taken");
    for rotation in 0..100 {
        // Every tenth time the authorities change, which ends what is open.
        let (issuer, authorities) = match rotation / 10 % 2 {
            0 => (&guard.stand.authority, guard.stand.authority.pem()),
            _ => (&next, both.clone()),
        };
        let (certificate, key) = issuer.server(30);
        guard.rotate(&certificate, &key, &authorities);
        load.answers(4).await;
    }
    let (failures, answered, connections) = load.end().await;
    assert_eq!(failures, Vec::<String>::new(), "{answered} were answered");
    let taken = guard.counted("certificate", "taken") - before;
    assert_eq!((taken, guard.counted("certificate", "kept-out")), (100, 0));
    assert!(answered >= 400 && connections < answered, "{answered} on {connections} connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_would_not_do_are_kept_out() {
    let mut guard = Reloaded::start().await;
    let authority = guard.stand.authority.pem();
    let before = guard.stand.tls.current().id();
    let (good, key) = guard.stand.authority.server(30);
    let (_, other_key) = guard.stand.authority.server(30);
    let (expired, expired_key) = guard.stand.authority.server(0);
    std::thread::sleep(std::time::Duration::from_secs(1));
    for (certificate, key, authorities, reason) in [
        (&good, &other_key, &authority, "does not belong to the certificate"),
        (&good, &String::new(), &authority, "no private key"),
        (&key, &key, &authority, "no certificate in the chain"),
        (&good, &key, &String::new(), "no certificate of a client's authority"),
        (&expired, &expired_key, &authority, "it has expired"),
    ] {
        guard.rotate(certificate, key, authorities);
        assert!(guard.kept_out().contains(reason), "{reason}: {}", guard.kept_out());
        assert!(!guard.kept_out().contains("BEGIN"), "{}", guard.kept_out());
        assert_eq!(guard.stand.tls.current().id(), before);
        assert!(guard.stand.guard.health.report(now()).ready);
    }
    guard.rotate(&good, &key, &authority);
    assert_eq!(guard.kept_out(), "");
    assert_ne!(guard.stand.tls.current().id(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_an_authority_that_went_is_sent_away() {
    let mut guard = Reloaded::start().await;
    let next = Authority::new();
    let address = guard.stand.address;
    let ask = |config: ClientConfig| async move {
        let body = review_of(&fixture("daemonset-label"));
        client::send(address, &config, Http::Two, review(body)).await
    };
    let (certificate, key) = guard.stand.authority.server(30);
    let old = guard.stand.client.clone();
    assert!(ask(old.clone()).await.is_ok());
    let mut open = Connection::open(address, &old, Http::Two).await.unwrap();
    let body = review_of(&fixture("daemonset-label"));
    assert!(open.send(review(body), address).await.is_ok());
    guard.rotate(&certificate, &key, &next.pem());
    assert!(ask(old).await.is_err(), "the old authority is none any more");
    let until = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while open.ready().await {
        assert!(std::time::Instant::now() < until, "the old connection stays open");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let identity = next.client(CLIENT);
    let new = guard.stand.authority.config(Some(identity), &[&rustls::version::TLS13]);
    assert!(ask(new).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_swapped_under_load_and_broken_ones_kept_out() {
    let mut guard = Reloaded::start().await;
    let body = review_of(&fixture("daemonset-delete"));
    let load = Load::start(guard.stand.address, &guard.stand.client, &body, false);
    let before = guard.stand.guard.policy.load().program().id();
    let admits_all = guest::guest(&respond(ACCEPTED_AT, ACCEPTED));
    let truncated = module()[..module().len() / 2].to_vec();
    for (module, settings, reason) in [
        (&admits_all[..], "{}", "self-test: the policy admits the deletion of a component that runs"),
        (&truncated[..], "{}", "cannot be compiled"),
        (b"", "{}", "cannot be compiled"),
        (module(), r#"{"rules": {"DS-0": "off"}}"#, "refuses its settings"),
        (module(), "{", "not JSON (line 1"),
    ] {
        guard.set_policy(module, settings);
        load.answers(4).await;
        assert!(guard.kept_out().contains(reason), "{reason}: {}", guard.kept_out());
        assert_eq!(guard.stand.guard.policy.load().program().id(), before);
    }
    for round in 0..20 {
        guard.set_policy(module(), &format!(r#"{{"rules": {{"DS-2": "{}"}}}}"#, ["warn", "deny"][round % 2]));
        load.answers(4).await;
    }
    let (failures, answered, _) = load.end().await;
    assert_eq!(failures, Vec::<String>::new(), "{answered} were answered");
    assert_eq!((guard.counted("policy", "taken"), guard.counted("policy", "kept-out")), (20, 5));
    assert_eq!(guard.kept_out(), "");
}
