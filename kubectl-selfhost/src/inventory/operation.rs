//! The open operation, read from its Lease and its ConfigMap.
//!
//! Invariant: pure. The ConfigMap exists as long as the cluster is, or may be, between two states; a Lease that is not
//! renewed any more means that the operation was interrupted.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;

use super::OpenOperation;

/// What the two objects tell.
pub fn read(lease: Option<&Lease>, journal: Option<&ConfigMap>, now: Timestamp) -> Option<OpenOperation> {
    let spec = lease.and_then(|lease| lease.spec.as_ref());
    let holder = spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    let running = !holder.is_empty()
        && renewed.is_some_and(|renewed| now.duration_since(renewed).as_secs() <= i64::from(seconds));
    if journal.is_none() && !running {
        return None;
    }
    let data = journal.and_then(|journal| journal.data.as_ref());
    let value = |key: &str| data.and_then(|data| data.get(key)).cloned();
    Some(OpenOperation {
        holder: if holder.is_empty() { value("holder").unwrap_or_default() } else { holder },
        what: value("what").unwrap_or_else(|| "unknown".to_owned()),
        command: value("command"),
        step: value("step"),
        since: value("since").and_then(|since| since.parse().ok()),
        renewed,
        running,
        record: value("record").and_then(|record| serde_json::from_str(&record).ok()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tells_running_from_interrupted() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let lease = |renewed: &str| -> Lease {
            serde_json::from_value(json!({"spec": {
                "holderIdentity": "ann@desk", "leaseDurationSeconds": 15, "renewTime": renewed
            }}))
            .unwrap()
        };
        let journal: ConfigMap = serde_json::from_value(json!({"data": {
            "what": "upgrade v1.37.2", "holder": "ann@desk", "step": "swap kube-apiserver on cp-1",
            "since": "2026-01-01T00:00:00Z"
        }}))
        .unwrap();
        let fresh = lease("2026-01-01T00:00:50.000000Z");
        let stale = lease("2026-01-01T00:00:10.000000Z");
        for (lease, journal, expected) in [
            (None, None, None),
            (Some(&stale), None, None),
            (Some(&fresh), None, Some((true, "unknown", None))),
            (
                Some(&fresh),
                Some(&journal),
                Some((true, "upgrade v1.37.2", Some("swap kube-apiserver on cp-1"))),
            ),
            (
                Some(&stale),
                Some(&journal),
                Some((false, "upgrade v1.37.2", Some("swap kube-apiserver on cp-1"))),
            ),
            (None, Some(&journal), Some((false, "upgrade v1.37.2", Some("swap kube-apiserver on cp-1")))),
        ] {
            let open = read(lease, journal, now);
            let seen = open.as_ref().map(|open| (open.running, open.what.as_str(), open.step.as_deref()));
            assert_eq!(seen, expected);
            assert!(open.is_none_or(|open| open.holder == "ann@desk"));
        }
    }
}
