//! From values to text: tables for people, documents for programs.
//!
//! Invariant: no fact is made here, and none is left out in one format that another has.

pub mod age;
pub mod document;
pub mod table;
pub mod text;
