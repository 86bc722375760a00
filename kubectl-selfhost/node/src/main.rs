//! The node part.
fn main() {}
