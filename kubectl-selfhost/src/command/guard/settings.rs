//! The settings of the policy, from a file.

use std::path::Path;

use selfhost_core::review::Settings;
use serde_json::{Value, json};

use crate::error::{Explain, Failure};
use crate::guard::change;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file} is refused")]
struct BadSettings {
    file: String,
    source: selfhost_core::review::settings::BadSettings,
}

impl Explain for BadSettings {
    fn hint(&self) -> Option<String> {
        Some(self.source.hint().to_owned())
    }
}

/// The settings as they are written, and as they are read; the rules' own where there is no file.
pub(super) fn read(path: Option<&Path>) -> Result<(Value, Settings), Failure> {
    let Some(path) = path else { return Ok((json!({}), Settings::default())) };
    let written = change::document(path)?;
    let settings = Settings::parse(written.to_string().as_bytes())
        .map_err(|source| BadSettings { file: path.display().to_string(), source })?;
    Ok((written, settings))
}
