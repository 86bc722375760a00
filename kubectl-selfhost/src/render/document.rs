//! JSON and YAML documents with `apiVersion` and `kind`.
//!
//! Invariant: within an `apiVersion` fields are only ever added.

use std::io::{self, Write};

use serde::Serialize;

use crate::cli::output::DataFormat;

/// The `apiVersion` of every document.
pub const API_VERSION: &str = "kubectl-selfhost.dev/v1alpha1";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a, T> {
    api_version: &'static str,
    kind: &'a str,
    #[serde(flatten)]
    content: &'a T,
}

/// Writes `content`, which must be a struct or a map, as one document. Documents can follow each other in one stream:
/// JSON stands on its own, YAML begins with `---`.
pub fn write(
    out: &mut dyn Write,
    format: DataFormat,
    kind: &str,
    content: &impl Serialize,
) -> io::Result<()> {
    let document = Document { api_version: API_VERSION, kind, content };
    match format {
        DataFormat::Json => {
            serde_json::to_writer_pretty(&mut *out, &document)?;
            writeln!(out)
        }
        DataFormat::Yaml => {
            // By way of JSON's data model, so that both formats have the same fields in the same order.
            let text = serde_saphyr::to_string(&document).map_err(io::Error::other)?;
            writeln!(out, "---\n{}", text.trim_end())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Content {
        version: &'static str,
        none: Option<u8>,
    }

    fn written(format: DataFormat) -> String {
        let mut out = Vec::new();
        write(&mut out, format, "Kind", &Content { version: "1.10", none: None }).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json() {
        insta::assert_snapshot!(written(DataFormat::Json), @r#"
        {
          "apiVersion": "kubectl-selfhost.dev/v1alpha1",
          "kind": "Kind",
          "version": "1.10",
          "none": null
        }
        "#);
    }

    #[test]
    fn yaml() {
        insta::assert_snapshot!(written(DataFormat::Yaml), @r#"
        ---
        apiVersion: kubectl-selfhost.dev/v1alpha1
        kind: Kind
        version: "1.10"
        none: null
        "#);
    }
}
