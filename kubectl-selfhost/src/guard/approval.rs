//! Approvals, as they are put on an object.

use selfhost_core::review::approval::{ANNOTATION, Approval, Change};
use selfhost_core::review::{NotAReview, Request};
use serde_json::Value;

use super::change::{self, Asker};

/// The change that a write of `object` is, or its deletion. `old` is what is there now.
pub fn of(object: &Value, old: Option<&Value>, delete: bool) -> Result<Change, NotAReview> {
    // Whoever makes the change is no part of it.
    let request = change::request(object, old, delete, &Asker::named(None, &[]));
    Ok(Change::of(&Request::parse(request.to_string().as_bytes())?))
}

/// The approval that is on the object, if it can be read.
pub fn on(object: &Value) -> Option<Approval> {
    serde_json::from_str(object.pointer("/metadata/annotations")?[ANNOTATION].as_str()?).ok()
}

/// Puts the approval on the object.
pub fn put(object: &mut Value, approval: &Approval) -> serde_json::Result<()> {
    object["metadata"]["annotations"][ANNOTATION] = serde_json::to_string(approval)?.into();
    Ok(())
}
