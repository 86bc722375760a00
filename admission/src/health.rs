//! Whether the guard works, for those who ask.
//!
//! Invariant: ready means that a review sent now gets a verdict: the policy that runs has just judged rightly, and the API
//! server can trust the certificate.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::server::tls::Validity;

/// What is known.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    draining: bool,
    self_test: Option<Result<(), String>>,
    certificate: Option<Validity>,
    kept_out: BTreeMap<&'static str, String>,
}

/// The answer to who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether it is ready.
    pub ready: bool,
    /// Each check on a line.
    pub text: String,
}

/// Now, in seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It ends, and begins nothing new.
    pub fn drain(&self) {
        self.state().draining = true;
    }

    /// How the policy that runs judged what is known.
    pub fn self_test(&self, result: Result<(), String>) {
        self.state().self_test = Some(result);
    }

    /// The certificate that is served.
    pub fn certificate(&self, validity: Validity) {
        self.state().certificate = Some(validity);
    }

    /// Changed files were taken, or kept out for a reason.
    pub fn reloaded(&self, what: &'static str, result: Result<(), String>) {
        let mut state = self.state();
        match result {
            Ok(()) => drop(state.kept_out.remove(what)),
            Err(reason) => drop(state.kept_out.insert(what, reason)),
        }
    }

    /// All of it, at a time.
    pub fn report(&self, now: i64) -> Report {
        let state = self.state();
        let policy = match &state.self_test {
            Some(Ok(())) => Ok("it judges rightly".to_owned()),
            Some(Err(reason)) => Err(reason.clone()),
            None => Err("not tried yet".to_owned()),
        };
        let certificate = match state.certificate {
            Some(validity) => validity.check(now),
            None => Err("there is none".to_owned()),
        };
        let serving = if state.draining { Err("it ends") } else { Ok("yes") };
        let mut report = Report { ready: true, text: String::new() };
        for (name, result) in [
            ("policy", policy),
            ("certificate", certificate),
            ("serving", serving.map(str::to_owned).map_err(str::to_owned)),
        ] {
            let (sign, text) = match &result {
                Ok(text) => ('+', text),
                Err(text) => ('-', text),
            };
            report.ready &= result.is_ok();
            // Writing to a text does not fail.
            let _ = writeln!(report.text, "[{sign}] {name}: {text}");
        }
        for (what, reason) in &state.kept_out {
            let _ = writeln!(report.text, "[!] new {what} kept out: {reason}");
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn healthy() -> Health {
        let health = Health::default();
        health.self_test(Ok(()));
        health.certificate(Validity { from: 0, until: 10 * DAY });
        health
    }

    #[test]
    fn it_is_ready_when_everything_is() {
        let report = healthy().report(DAY);
        assert!(report.ready);
        assert_eq!(
            report.text,
            "[+] policy: it judges rightly\n[+] certificate: valid for 9 days\n[+] serving: yes\n"
        );
    }

    #[test]
    fn each_check_can_fail() {
        assert!(!Health::default().report(DAY).ready);
        let health = healthy();
        health.self_test(Err("a deletion was admitted".to_owned()));
        assert!(health.report(DAY).text.starts_with("[-] policy: a deletion was admitted\n"));
        let health = healthy();
        assert!(!health.report(10 * DAY).ready, "expired");
        assert!(!health.report(-1).ready, "not yet valid");
        health.drain();
        assert!(!health.report(DAY).ready);
    }

    #[test]
    fn what_is_kept_out_is_told_and_does_not_stop_what_runs() {
        let health = healthy();
        health.reloaded("policy", Err("it is no module".to_owned()));
        let report = health.report(DAY);
        assert!(report.ready);
        assert!(report.text.ends_with("[!] new policy kept out: it is no module\n"), "{}", report.text);
        health.reloaded("policy", Ok(()));
        assert!(!health.report(DAY).text.contains("kept out"));
    }
}
