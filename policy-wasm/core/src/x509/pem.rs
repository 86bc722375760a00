//! PEM, as OpenSSL and Go read it: whatever stands between the blocks does not count.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// `CERTIFICATE`
    pub label: String,
    /// What it holds.
    pub der: Vec<u8>,
}

/// Every block of a file, in order. A block that begins and is not one is an error: what reads the file may take it
/// for its end, or not.
pub fn blocks(pem: &[u8]) -> Result<Vec<Block>, String> {
    let text = std::str::from_utf8(pem).map_err(|_| "it is not text".to_owned())?;
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            if line.contains("-----BEGIN") {
                return Err("a block of PEM does not begin on a line of its own".to_owned());
            }
            continue;
        };
        let end = format!("-----END {label}-----");
        let mut content = String::new();
        loop {
            match lines.next() {
                None => return Err(format!("a block {label} has no end")),
                Some(line) if line == end => break,
                Some(line) if line.contains(':') => {
                    return Err(format!("a block {label} has headers, as encrypted keys have"));
                }
                Some(line) => content.push_str(line.trim()),
            }
        }
        let der = STANDARD.decode(&content).map_err(|_| format!("a block {label} is not in base64"))?;
        found.push(Block { label: label.to_owned(), der });
    }
    Ok(found)
}
