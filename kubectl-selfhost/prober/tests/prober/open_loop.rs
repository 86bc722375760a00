//! Sends follow the clock, gaps are as long as they were, and the measurement can be watched and ended.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use selfhost_prober::{Budget, BudgetExceeded, Config, Load, Mode, Prober, Target};

use crate::pki::Pki;
use crate::run;
use crate::server::{self, ok};

const MODES: [Mode; 3] = [Mode::New, Mode::Reused, Mode::ReusedHttp1];

#[tokio::test]
async fn a_server_that_stalls_gets_as_many_requests() {
    let pki = Pki::new();
    for mode in MODES {
        let first_request = Arc::new(OnceLock::new());
        let server = server::http(&pki, mode, move |_| {
            let stalled_until = *first_request.get_or_init(Instant::now) + Duration::from_secs(2);
            async move {
                tokio::time::sleep_until(stalled_until.into()).await;
                ok()
            }
        })
        .await;
        let target = Target::new("server", server.address, "localhost").unwrap();
        let config = Config::new(pki.client(), vec![target])
            .load(Load::reads(mode, 2, 20.0))
            .timeout(Duration::from_secs(30))
            .max_duration(Duration::from_secs(3));
        let report = run(config).await;
        // 2 streams, 20 per second, 3 seconds: those of the stalled two seconds were not held back.
        assert_eq!(report.total.counts.requests, 120, "{mode}: {report}");
        assert_eq!(report.total.counts.ok, 120, "{mode}: {report}");
        assert_eq!(report.ended_by.as_deref(), Some("maxDuration"));
        let latency = report.total.latency.unwrap();
        // Most waited for the stall to end: a closed loop would have one slow request for each connection.
        assert!(latency.p50 > Duration::from_millis(200), "{mode}: {latency:?}");
        assert!(latency.max > Duration::from_secs(1), "{mode}: {latency:?}");
    }
}

#[tokio::test]
async fn a_gap_is_as_long_as_the_server_was_away() {
    let pki = Pki::new();
    for mode in [Mode::New, Mode::Reused] {
        let is_down = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Mutex::new(Vec::new()));
        let (is_down_there, answers_there) = (Arc::clone(&is_down), Arc::clone(&answers));
        let server = server::http(&pki, mode, move |_| {
            let (is_down, answers) = (Arc::clone(&is_down_there), Arc::clone(&answers_there));
            async move {
                let mut response = ok();
                if is_down.load(Ordering::Relaxed) {
                    *response.status_mut() = http::StatusCode::FORBIDDEN;
                } else {
                    answers.lock().unwrap().push(Instant::now());
                }
                response
            }
        })
        .await;
        let target = Target::new("server", server.address, "localhost").unwrap();
        let config = Config::new(pki.client(), vec![target]).load(Load::reads(mode, 4, 10.0));
        let prober = Prober::start(config).unwrap();
        prober.mark("up");
        tokio::time::sleep(Duration::from_millis(800)).await;
        prober.mark("down");
        is_down.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let budget = Budget { max_failed: u64::MAX, max_gap: Duration::from_secs(1) };
        let exceeded = budget.check(&prober.snapshot()).unwrap_err();
        assert!(matches!(exceeded, BudgetExceeded::Gap { .. }), "{exceeded}");
        prober.mark("up again");
        is_down.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(800)).await;
        let report = prober.stop().await;

        let answers = answers.lock().unwrap();
        let on_server = answers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        let gap = &report.total.longest_gap;
        assert!(gap.length >= Duration::from_secs(1), "{mode}: {report}");
        let ratio = gap.length.as_secs_f64() / on_server.as_secs_f64();
        assert!((0.7..1.4).contains(&ratio), "{mode}: {gap:?} here, {on_server:?} on the server");
        assert_eq!(gap.step.as_deref(), Some("down"), "{mode}: {report}");

        let names: Vec<_> = report.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["up", "down", "up again"]);
        let failed_while_down = report.steps[1].counts.failed;
        assert!(failed_while_down > 0 && failed_while_down <= report.total.counts.failed, "{report}");
        let sample = &report.series[0].first_failures[0];
        assert_eq!(sample.step.as_deref(), Some("down"), "{sample:?}");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_one_gap_from_start_to_end() {
    let pki = Pki::new();
    let server = server::http(&pki, Mode::New, |_| async {
        let mut response = ok();
        *response.status_mut() = http::StatusCode::FORBIDDEN;
        response
    })
    .await;
    let target = Target::new("server", server.address, "localhost").unwrap();
    let config = Config::new(pki.client(), vec![target])
        .load(Load::reads(Mode::New, 1, 20.0))
        .max_duration(Duration::from_millis(500));
    let report = run(config).await;
    let gap = &report.total.longest_gap;
    assert_eq!((gap.began_at, gap.length), (Duration::ZERO, report.duration), "{report}");
}

#[tokio::test]
async fn a_dropped_handle_ends_the_sending() {
    let pki = Pki::new();
    let requests = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&requests);
    let server = server::http(&pki, Mode::Reused, move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { ok() }
    })
    .await;
    let target = Target::new("server", server.address, "localhost").unwrap();
    let config = Config::new(pki.client(), vec![target]).load(Load::reads(Mode::Reused, 2, 100.0));
    let prober = Prober::start(config).unwrap();
    while requests.load(Ordering::Relaxed) < 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(prober);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = requests.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(requests.load(Ordering::Relaxed), before);
}

#[tokio::test]
async fn the_report_survives_json_and_keeps_each_series_apart() {
    let pki = Pki::new();
    let one = server::http(&pki, Mode::New, |_| async { ok() }).await;
    let two = server::http(&pki, Mode::New, |_| async {
        let mut response = ok();
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        response
    })
    .await;
    let target =
        |name: &str, server: &server::Server| Target::new(name, server.address, "localhost").unwrap();
    let config = Config::new(pki.client(), vec![target("one", &one), target("two", &two)])
        .load(Load::reads(Mode::New, 1, 20.0))
        .load(Load::reads(Mode::ReusedHttp1, 2, 10.0))
        .max_duration(Duration::from_millis(500));
    assert!((config.total_rate() - 80.0).abs() < 1e-9);
    let report = run(config).await;
    let counts: Vec<_> = report
        .series
        .iter()
        .map(|s| (s.target.as_str(), s.mode.as_str(), s.summary.counts.ok, s.summary.counts.failed))
        .collect();
    let expected = [
        ("one", "new", 10, 0),
        ("one", "reused-http1", 10, 0),
        ("two", "new", 0, 10),
        ("two", "reused-http1", 0, 10),
    ];
    assert_eq!(counts, expected, "{report}");

    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["total"]["failures"]["http-404"], 20);
    assert_eq!(json["series"][2]["mode"], "new");
    assert!(json["series"][0]["summary"]["longestGap"]["beganAtSeconds"].is_f64(), "{json}");
    let again: selfhost_prober::Report = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), json);
}
