//! The ways around an admission guard, one after the other, on a real API server with the real guard.
//!
//! Each case is an edit that has to be denied by the rule that is meant for it, and one beside it that has to be admitted.
//! They run three times: with the policies of tier 0 alone, with the webhook alone, and with both, as they are installed.
//! What is denied changes nothing and what is admitted is a dry run, so that every case starts from the same cluster.
//!
//! Invariant: no case depends on another one, on time, or on how fast the machine is.

mod call;
mod case;
mod cluster;
mod cold_start;
mod fixed;
mod matrix;
mod place;
mod pods;
mod rights;
mod seed;
mod served;
mod stores;
mod workloads;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use selfhost_core::registration::{self, Registration};
use selfhost_core::review::settings::Guard;
use selfhost_tests::cluster::{DEFAULT_VERSION, UPGRADE_VERSION};
use selfhost_tests::{ApiServer, Progress};
use serde_json::{Value, json};

use call::{Answer, Call, Proxy};
use case::{Case, Cases, Who, denial};
use matrix::Row;
use place::Place;
use seed::World;

/// How long an API server may take to hear of a registration, through a watch.
const HEARD: Duration = Duration::from_secs(60);

/// The static manifest that `guard install` writes.
const MANIFEST: &str = "guard.json";

/// From one look of an API server at its static manifests to the next, at most: it also hears of changes at once, where
/// the file system tells.
const REREAD: Duration = Duration::from_secs(90);

/// How often it is asked again where the API server has not reached the guard in its two seconds, or a review took more
/// than its 25 ms of a processor: the machine may have much else to do. What takes too long by itself fails each time.
const ATTEMPTS: u8 = 5;

/// What is registered.
struct Names {
    guard: Guard,
    secrets: BTreeSet<String>,
    config_maps: BTreeSet<String>,
}

impl Names {
    fn of(world: &World) -> Self {
        Self {
            guard: Guard::default(),
            secrets: world.secrets.clone(),
            config_maps: world.config_maps.clone(),
        }
    }

    fn registration<'a>(&'a self, place: &'a Place, url: &'a str) -> Registration<'a> {
        Registration {
            url,
            ca_bundle: &place.ca_bundle,
            fail: true,
            wide: true,
            secrets: &self.secrets,
            config_maps: &self.config_maps,
            guard: &self.guard,
        }
    }
}

#[test]
fn every_known_way_around_the_guard_is_closed() -> Result<()> {
    // Two API servers: one has the registration in its API, as every cluster can; the other in a static manifest.
    let others = std::thread::spawn(static_manifests);
    let mut rows = registered()?;
    let others = others.join().map_err(|_| anyhow::anyhow!("the test of static manifests panicked"))?;
    rows.extend(others.context("static manifests")?);
    matrix::check(&rows)
}

/// The cases that a registration through the API can see.
fn registered() -> Result<Vec<Row>> {
    let place = Place::new()?;
    let server = ApiServer::start_with(
        &DEFAULT_VERSION.parse()?,
        &[place.admission_config(false)?],
        &Progress::stderr(),
    )?;
    let proxy = Proxy::start(&server)?;
    served::check(&proxy)?;
    let world = seed::seed(&proxy)?;
    cluster::seed(&proxy)?;
    let names = Names::of(&world);
    let url = place.url();
    let registration = names.registration(&place, &url);
    let mut cases = Cases::default();
    workloads::cases(&proxy, &mut cases)?;
    stores::cases(&world, &mut cases)?;
    pods::cases(&mut cases);
    rights::cases(&mut cases);
    cluster::cases(&mut cases)?;
    let cases = cases.all;

    let policies = registration::tier0(&registration);
    install(&proxy, &policies)?;
    until(&proxy, Some(&Who::Policy))?;
    let mut by_policy = Vec::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let answer = proxy.try_out(&case.attack)?;
        let found = denial(&answer);
        match &found {
            Some((_, ids)) if !ids.iter().any(|id| id == case.rule) => {
                wrong.push(said(case, "is denied by another policy", &answer));
            }
            None if case.by_policy => wrong.push(said(case, "no policy denies it", &answer)),
            _ => {}
        }
        by_policy.push(found.is_some());
        let answer = proxy.try_out(&case.good)?;
        if !case.is_admitted(&answer) {
            wrong.push(said(case, &format!("the policies deny {:?}", case.beside), &answer));
        }
    }
    end(&wrong)?;

    let guard = place.start(&server)?;
    remove(&proxy, &policies)?;
    until(&proxy, None)?;
    let webhook = [registration::webhook(&registration)];
    install(&proxy, &webhook)?;
    until(&proxy, Some(&Who::Webhook("named".to_owned())))?;
    let mut rows = Vec::new();
    for (case, by_policy) in cases.iter().zip(by_policy) {
        let webhook = if case.by_policy { String::new() } else { judge(&proxy, case, &mut wrong)? };
        rows.push(Row { case: case.clone(), webhook, by_policy });
    }
    end(&wrong)?;

    install(&proxy, &policies)?;
    until(&proxy, Some(&Who::Policy))?;
    for case in &cases {
        judge(&proxy, case, &mut wrong)?;
    }
    end(&wrong)?;
    changed_by_others(&proxy)?;
    ensure!(!guard.log()?.contains(stores::CANARY), "the guard's log has a byte of a Secret");
    Ok(rows)
}

/// Another admission plugin changes what was good into what is not (B16): it is judged as it would be stored.
fn changed_by_others(proxy: &Proxy) -> Result<()> {
    let group = "/apis/admissionregistration.k8s.io/v1";
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "mine"}, "spec": {"reinvocationPolicy": "Never",
        "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["daemonsets"],
            "operations": ["UPDATE"]}]},
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration":
            {"expression": "Object{spec: Object.spec{updateStrategy: Object.spec.updateStrategy{type: \"RollingUpdate\"}}}"}}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": "mine"}, "spec": {"policyName": "mine"}});
    let good = case::label(seed::SERVER);
    ensure!(denial(&proxy.try_out(&good)?).is_none(), "a label is denied");
    proxy.send(&Call::post(&format!("{group}/mutatingadmissionpolicies"), &policy))?.object()?;
    proxy.send(&Call::post(&format!("{group}/mutatingadmissionpolicybindings"), &binding))?.object()?;
    let begin = Instant::now();
    loop {
        let answer = proxy.try_out(&good)?;
        if let Some((_, ids)) = denial(&answer) {
            ensure!(ids == ["DS-5"], "a label that another policy makes an edit of is denied by {ids:?}");
            return Ok(());
        }
        ensure!(begin.elapsed() < HEARD, "a label that another policy makes an edit of is admitted");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The cases of registrations themselves, with the guard in a static manifest. The API server starts while no guard is
/// there, so that this is a cold start with a dead one, too.
fn static_manifests() -> Result<Vec<Row>> {
    let place = Place::new()?;
    let names = Names { guard: Guard::default(), secrets: BTreeSet::new(), config_maps: BTreeSet::new() };
    let url = place.url();
    let registration = names.registration(&place, &url);
    place.write_manifest(MANIFEST, &registration::static_manifest(&registration))?;
    // More than is installed so: what fails closed is there from the first request on.
    let mut closed = registration::webhook(&registration);
    closed["metadata"]["name"] = json!(format!("closed{}", registration::STATIC_SUFFIX));
    place.write_manifest("closed.json", &closed)?;
    let flags = [
        place.admission_config(true)?,
        ("feature-gates", "ManifestBasedAdmissionControlConfig=true".to_owned()),
    ];
    let server = ApiServer::start_with(&UPGRADE_VERSION.parse()?, &flags, &Progress::stderr())
        .context("with a static manifest, and no guard that answers")?;
    let proxy = Proxy::start(&server)?;
    served::check(&proxy)?;
    cold_start::check(&proxy)?;
    // What is to be kept has to be there; its own webhook is not registered before its guard answers.
    let _guard = place.start(&server)?;
    let mut objects = registration::tier0(&registration);
    objects.push(registration::webhook(&registration));
    let (_, other) = fixed::other();
    objects.push(other);
    install(&proxy, &objects)?;
    let mut cases = Cases::default();
    fixed::cases(&mut cases);
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    for case in cases.all {
        let webhook = judge(&proxy, &case, &mut wrong)?;
        rows.push(Row { case, webhook, by_policy: false });
    }
    end(&wrong)?;
    // Root's way out of it: the API server looks at the directory again within a minute.
    place.remove_manifest(MANIFEST)?;
    let delete =
        Call::delete("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/selfhost-guard");
    let begin = Instant::now();
    while !proxy.try_out(&delete)?.is_good() {
        ensure!(begin.elapsed() < REREAD, "a static manifest that is gone is asked all the same");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(rows)
}

/// Makes both edits of a case, and says which webhook has denied the first. What is not as it should be goes into `wrong`.
fn judge(proxy: &Proxy, case: &Case, wrong: &mut Vec<String>) -> Result<String> {
    let mut by = String::new();
    // First as a dry run: where that gets through, it is not done.
    let tries: [fn(&Proxy, &Call) -> Result<Answer>; 2] = [Proxy::try_out, Proxy::send];
    for (kind, send) in ["as a dry run", "for real"].into_iter().zip(tries) {
        let answer = patiently(proxy, &case.attack, send)?;
        if answer.body.contains(stores::CANARY) {
            wrong.push(said(case, "the answer has a byte of a Secret", &answer));
        }
        match denial(&answer) {
            Some((who, _)) if case.is_denied(&answer) => {
                if let Who::Webhook(name) = who {
                    by = name;
                }
            }
            Some((_, ids)) => wrong.push(said(case, &format!("{kind}, it is denied by {ids:?}"), &answer)),
            None => {
                wrong.push(said(case, &format!("{kind}, it is not denied"), &answer));
                break;
            }
        }
    }
    let answer = patiently(proxy, &case.good, Proxy::try_out)?;
    if !case.is_admitted(&answer) {
        wrong.push(said(case, &format!("{:?} is not admitted", case.beside), &answer));
    }
    Ok(by)
}

/// Sends a request, again where there was no time for a verdict.
fn patiently(proxy: &Proxy, call: &Call, send: fn(&Proxy, &Call) -> Result<Answer>) -> Result<Answer> {
    let mut attempt = 1;
    loop {
        let answer = send(proxy, call)?;
        let late = ["failed calling webhook", "took longer than it may"];
        let message = answer.message();
        if attempt == ATTEMPTS || !late.iter().any(|it| message.contains(it)) {
            return Ok(answer);
        }
        attempt += 1;
    }
}

fn said(case: &Case, what: &str, answer: &Answer) -> String {
    let message: String = answer.message().chars().take(400).collect();
    format!("B{} {} ({}): {what}: {} {message}", case.bypass, case.form, case.rule, answer.status)
}

fn end(wrong: &[String]) -> Result<()> {
    ensure!(wrong.is_empty(), "{} of the cases:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn install(proxy: &Proxy, objects: &[Value]) -> Result<()> {
    for object in objects {
        let path = fixed::collection(object["kind"].as_str().unwrap_or_default());
        let stored = proxy
            .send(&Call::post(path, object))?
            .object()
            .with_context(|| format!("register {}", object["metadata"]))?;
        if object["metadata"]["name"] != "other" {
            // An approval is of what is stored.
            for content in ["webhooks", "spec"] {
                ensure!(stored[content] == object[content], "the API server adds to it: {}", stored[content]);
            }
        }
    }
    Ok(())
}

fn remove(proxy: &Proxy, objects: &[Value]) -> Result<()> {
    for object in objects {
        let path = fixed::collection(object["kind"].as_str().unwrap_or_default());
        let name = object["metadata"]["name"].as_str().context("a name")?;
        proxy.send(&Call::delete(&format!("{path}/{name}")))?.object()?;
    }
    Ok(())
}

/// Waits until this is who denies: each of the policies hears of itself on its own.
fn until(proxy: &Proxy, expected: Option<&Who>) -> Result<()> {
    let begin = Instant::now();
    for path in
        [seed::SERVER, "/api/v1/namespaces/kube-system/secrets/ca", "/api/v1/namespaces/selfhost-guard"]
    {
        let call = Call::delete(path);
        loop {
            let answer = proxy.try_out(&call)?;
            if denial(&answer).map(|(who, _)| who).as_ref() == expected {
                break;
            }
            if begin.elapsed() > HEARD {
                bail!("{expected:?} does not deny to delete {path}: {} {}", answer.status, answer.body);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}
