//! Too much at once, and too long.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use selfhost_admission::capabilities::{Reply, Source};
use selfhost_core::review::Lookup;
use serde_json::{Value, json};

use crate::client::{self, Http, review, review_of};
use crate::guest::{ACCEPTED, ACCEPTED_AT, ASK_CALL, respond};
use crate::stand::{Options, Stand};

/// A cluster that does not answer until it is told to.
#[derive(Default)]
struct Held {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    released: bool,
    waiting: usize,
}

impl Held {
    fn release(&self) {
        self.state.lock().unwrap().released = true;
        self.changed.notify_all();
    }

    /// Waits until so many wait for an answer.
    fn wait_for(&self, count: usize) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |state| state.waiting < count).unwrap());
    }
}

impl Source for Held {
    fn fetch(&self, _: &Lookup, deadline: Instant) -> Reply {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        let left = deadline.saturating_duration_since(Instant::now());
        drop(self.changed.wait_timeout_while(state, left, |state| !state.released).unwrap());
        Reply::Missing
    }
}

/// A guard of one worker, with a place for one more, whose policy asks the cluster before it accepts.
async fn stand() -> (Arc<Stand>, Arc<Held>) {
    let held = Arc::new(Held::default());
    let mut options = Options::guest(&format!("(drop {ASK_CALL}) {}", respond(ACCEPTED_AT, ACCEPTED)));
    options.source = held.clone();
    (options.workers, options.queue) = (1, 1);
    (Arc::new(Stand::start(options).await), held)
}

fn ask(stand: &Arc<Stand>, uid: &str) -> tokio::task::JoinHandle<Value> {
    let (stand, request) = (Arc::clone(stand), json!({"uid": uid}));
    tokio::spawn(async move { stand.ask(&request).await.response() })
}

async fn wait_for(held: &Arc<Held>, count: usize) {
    let held = Arc::clone(held);
    tokio::task::spawn_blocking(move || held.wait_for(count)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_denied_at_once() {
    let (stand, held) = stand().await;
    let first = ask(&stand, "1");
    wait_for(&held, 1).await;
    // Of five, one fits into the queue; which one is not said.
    let mut others: Vec<_> = (2..7).map(|uid| ask(&stand, &uid.to_string())).collect();
    let mut denied = Vec::new();
    while denied.len() < 4 {
        let (response, _, rest) = futures::future::select_all(others).await;
        denied.push(response.unwrap());
        others = rest;
    }
    for response in denied {
        assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(429)));
        assert!(response["status"]["message"].as_str().unwrap().contains("more reviews than it can answer"));
    }
    held.release();
    assert_eq!(first.await.unwrap()["allowed"], true);
    assert_eq!(others.pop().unwrap().await.unwrap()["allowed"], true);
    assert!(stand.guard.metrics.text().contains(r#"outcome="shed"} 4"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_longer_than_the_api_server() {
    let (stand, held) = stand().await;
    let send = |timeout: &str, uid: &str| {
        let mut request = review(review_of(&json!({"uid": uid})));
        *request.uri_mut() = format!("/validate?timeout={timeout}").parse().unwrap();
        let stand = Arc::clone(&stand);
        tokio::spawn(async move {
            client::send(stand.address, &stand.client, Http::Two, request).await.unwrap().response()
        })
    };
    let first = send("30s", "1");
    wait_for(&held, 1).await;
    // It waits in the queue, and then no more.
    let second = send("300ms", "2").await.unwrap();
    assert_eq!((&second["allowed"], &second["status"]["code"]), (&json!(false), &json!(429)));
    held.release();
    assert_eq!(first.await.unwrap()["allowed"], true);
    // What nobody waited for was not evaluated: the next one is asked about at once.
    assert_eq!(send("30s", "3").await.unwrap()["allowed"], true);
    assert_eq!(held.state.lock().unwrap().waiting, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_begun_is_answered_before_the_end() {
    let (stand, held) = stand().await;
    let first = ask(&stand, "1");
    wait_for(&held, 1).await;
    stand.stop();
    // It is told to stop, and begins nothing more.
    let until = Instant::now() + Duration::from_mins(1);
    while client::send(stand.address, &stand.client, Http::Two, review("")).await.is_ok() {
        assert!(Instant::now() < until, "it goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!stand.guard.health.report(0).ready);
    held.release();
    assert_eq!(first.await.unwrap()["allowed"], true);
    Arc::into_inner(stand).unwrap().stopped().await;
}
