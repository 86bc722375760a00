//! When certificates end.

use selfhost_core::finding::{Code, Finding};

use crate::inventory::{Inventory, Place};
use crate::render::age;

/// How long before its end, in seconds, a certificate is worth a word: 30 days, the time that most teams need to plan
/// a change, and a twelfth of the year for which kubeadm issues them.
const SOON: i64 = 30 * 24 * 3600;

/// SH0112 and SH0113: a certificate ends soon, or has ended.
pub fn expiry(inventory: &Inventory) -> Vec<Finding> {
    inventory
        .certificates
        .iter()
        .filter_map(|certificate| {
            let left = certificate.not_after.as_second() - inventory.taken_at.as_second();
            let (code, message) = if left <= 0 {
                (Code::CertificateExpired, format!("expired {} ago", age::human(-left)))
            } else if left < SOON {
                (Code::CertificateExpires, format!("expires in {}", age::human(left)))
            } else {
                return None;
            };
            let node = certificate.node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
            let hint = match certificate.place {
                Place::Secret(_) => "renew it, and put it into the Secret".to_owned(),
                Place::Served(_) => {
                    "kubeadm certs renew all, on the node; then restart what uses them".to_owned()
                }
            };
            Some(
                Finding::new(
                    code,
                    format!("{}{node}", certificate.component),
                    format!("the certificate {} {message}", certificate.place),
                )
                .hint(hint),
            )
        })
        .collect()
}
