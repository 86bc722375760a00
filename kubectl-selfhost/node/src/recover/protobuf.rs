//! Reads protobuf messages into the JSON that Kubernetes would write for them, by a table of their fields.
//!
//! Invariant: nothing is dropped silently. A field that the table does not know is an error with its number; one that
//! it knows by name alone is `null` in the result, for whoever asked to judge.

use std::fmt;

use serde_json::{Map, Value};

/// A message's fields.
#[derive(Debug)]
pub(super) struct Message {
    /// Its name in Kubernetes' `generated.proto`.
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// One field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u64,
    /// Its name in JSON.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// How often a field is there, and how in JSON.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Once at most.
    One(Type),
    /// A list.
    Many(Type),
    /// A map of these by strings.
    Map(Type),
    /// A message whose fields are in JSON those of the message that it is in.
    Inline(&'static Message),
}

/// What a field holds.
///
/// Kubernetes' types in Go tell "not set" from zero by a pointer, and have none where the two mean the same. Without a
/// pointer the field is written in any case, and JSON leaves the zero out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Type {
    /// A string; an empty one says nothing.
    Text,
    /// A bool of which false says nothing.
    Flag,
    /// A bool behind a pointer.
    Choice,
    /// A number of which zero says nothing.
    Count,
    /// A number behind a pointer, or one that JSON has in any case.
    Number,
    /// Another message.
    Of(&'static Message),
    /// A `resource.Quantity`, in JSON a string.
    Quantity,
    /// An `intstr.IntOrString`, in JSON either.
    IntOrString,
    /// Known by its name alone: `null`.
    Unread,
}

/// Bytes that are no such message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}{why}")]
pub(crate) struct Error {
    path: Path,
    why: Why,
}

/// What is wrong with them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Why {
    #[error("ends in the middle of a value")]
    Short,
    #[error("has a number of more than 64 bits")]
    Long,
    #[error("is of wire type {0}, which is not the one of its kind")]
    Wire(u8),
    #[error("is not in UTF-8")]
    Text,
    #[error("has field {number}, which {message} has not in the versions of Kubernetes that are known here")]
    Unknown { message: &'static str, number: u64 },
}

/// Where in a message, from the inside out. Shown from the outside in, with a colon behind, if it is not the message
/// itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Path(Vec<String>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate().rev() {
            f.write_str(part)?;
            f.write_str(if at > 0 { "." } else { ": " })?;
        }
        Ok(())
    }
}

impl Error {
    fn within(mut self, part: impl Into<String>) -> Self {
        self.path.0.push(part.into());
        self
    }
}

impl From<Why> for Error {
    fn from(why: Why) -> Self {
        Self { path: Path::default(), why }
    }
}

/// What a field's number is followed by.
#[derive(Debug, Clone, Copy)]
pub(super) enum Payload<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads `bytes` as a `message`.
pub(super) fn decode(message: &Message, bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    let mut object = Map::new();
    decode_into(&mut object, message, bytes)?;
    Ok(object)
}

/// The fields of a message, in the order in which they were written.
pub(super) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u64, Payload<'_>), Why>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = field(&mut bytes);
        if field.is_err() {
            bytes = &[];
        }
        Some(field)
    })
}

fn decode_into(object: &mut Map<String, Value>, message: &Message, bytes: &[u8]) -> Result<(), Error> {
    for field in fields(bytes) {
        let (number, payload) = field?;
        let Some(field) = message.fields.iter().find(|field| field.number == number) else {
            return Err(Why::Unknown { message: message.name, number }.into());
        };
        let within = |error: Error| error.within(field.name);
        match field.kind {
            Kind::Inline(inner) => decode_into(object, inner, payload.bytes()?)?,
            Kind::One(kind) => {
                let value = value(kind, payload).map_err(within)?;
                if says_something(kind, &value) {
                    object.insert(field.name.to_owned(), value);
                }
            }
            Kind::Many(kind) => {
                if let Value::Array(list) =
                    object.entry(field.name).or_insert_with(|| Value::Array(Vec::new()))
                {
                    let part = || format!("{}[{}]", field.name, list.len());
                    let value = value(kind, payload).map_err(|error| error.within(part()))?;
                    list.push(value);
                }
            }
            Kind::Map(kind) => {
                let (key, value) = entry(kind, payload.bytes()?).map_err(within)?;
                if let Value::Object(map) = object.entry(field.name).or_insert_with(|| Map::new().into()) {
                    map.insert(key, value);
                }
            }
        }
    }
    Ok(())
}

fn value(kind: Type, payload: Payload<'_>) -> Result<Value, Error> {
    Ok(match kind {
        Type::Text => text(payload.bytes()?)?.into(),
        Type::Flag | Type::Choice => (payload.number()? != 0).into(),
        // Negative numbers are written in two's complement of 64 bits, whatever their type.
        Type::Count | Type::Number => payload.number()?.cast_signed().into(),
        Type::Of(message) => decode(message, payload.bytes()?)?.into(),
        Type::Quantity => quantity(payload.bytes()?)?,
        Type::IntOrString => int_or_string(payload.bytes()?)?,
        Type::Unread => Value::Null,
    })
}

fn says_something(kind: Type, value: &Value) -> bool {
    match kind {
        Type::Text => *value != "",
        Type::Flag => *value != false,
        Type::Count => *value != 0,
        _ => true,
    }
}

/// `message Entry { string key = 1; T value = 2; }`
fn entry(kind: Type, bytes: &[u8]) -> Result<(String, Value), Error> {
    let (mut key, mut found) = (String::new(), Value::from(""));
    for field in fields(bytes) {
        match field? {
            (1, payload) => key = text(payload.bytes()?)?,
            (2, payload) => found = value(kind, payload)?,
            (number, _) => return Err(Why::Unknown { message: "map entry", number }.into()),
        }
    }
    Ok((key, found))
}

/// `message Quantity { string string = 1; }`
fn quantity(bytes: &[u8]) -> Result<Value, Error> {
    let mut value = Value::from("0");
    for field in fields(bytes) {
        match field? {
            (1, payload) => value = text(payload.bytes()?)?.into(),
            (number, _) => return Err(Why::Unknown { message: "Quantity", number }.into()),
        }
    }
    Ok(value)
}

/// `message IntOrString { int64 type = 1; int32 intVal = 2; string strVal = 3; }`, type 1 for a string.
fn int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut number, mut string) = (false, 0, String::new());
    for field in fields(bytes) {
        match field? {
            (1, payload) => is_text = payload.number()? == 1,
            (2, payload) => number = payload.number()?.cast_signed(),
            (3, payload) => string = text(payload.bytes()?)?,
            (number, _) => return Err(Why::Unknown { message: "IntOrString", number }.into()),
        }
    }
    Ok(if is_text { string.into() } else { number.into() })
}

fn text(bytes: &[u8]) -> Result<String, Why> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Why::Text)
}

impl<'a> Payload<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Why> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err(Why::Wire(VARINT)),
        }
    }

    fn number(self) -> Result<u64, Why> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes(_) => Err(Why::Wire(LENGTH)),
        }
    }
}

/// Wire type of numbers.
const VARINT: u8 = 0;

/// Wire type of whatever has a length: strings and messages. Kubernetes has no field of any other type.
const LENGTH: u8 = 2;

fn field<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Payload<'a>), Why> {
    let key = varint(bytes)?;
    let payload = match (key & 7) as u8 {
        VARINT => Payload::Number(varint(bytes)?),
        LENGTH => {
            let length = usize::try_from(varint(bytes)?).map_err(|_| Why::Short)?;
            let (value, rest) = bytes.split_at_checked(length).ok_or(Why::Short)?;
            *bytes = rest;
            Payload::Bytes(value)
        }
        other => return Err(Why::Wire(other)),
    };
    Ok((key >> 3, payload))
}

/// Seven bits in each byte, the lowest first; the eighth says that more follow.
fn varint(bytes: &mut &[u8]) -> Result<u64, Why> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(Why::Short)?;
        *bytes = rest;
        let bits = u64::from(first & 0x7f);
        value |= bits << shift;
        // The tenth byte has room for one bit.
        if shift == 63 && bits > 1 {
            return Err(Why::Long);
        }
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Why::Long)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schema;
    use super::*;

    const INNER: Message = Message {
        name: "Inner",
        fields: &[schema::text(1, "text"), schema::count(2, "count"), schema::number(3, "number")],
    };

    const OUTER: Message = Message {
        name: "Outer",
        fields: &[
            schema::texts(1, "list"),
            schema::one(2, "inner", &INNER),
            schema::inline(3, &INNER),
            schema::many(4, "inners", &INNER),
            schema::map(5, "labels"),
            schema::quantities(6, "limits"),
            schema::int_or_string(7, "port"),
            schema::choice(8, "choice"),
            schema::flag(9, "flag"),
            schema::unread(10, "unread"),
        ],
    };

    #[test]
    fn messages() {
        for (bytes, expected) in [
            (&b""[..], json!({})),
            (b"\x0a\x01a\x0a\x00", json!({"list": ["a", ""]})),
            (b"\x12\x00", json!({"inner": {}})),
            (b"\x12\x06\x0a\x00\x10\x00\x18\x00", json!({"inner": {"number": 0}})),
            (b"\x12\x03\x18\xac\x02", json!({"inner": {"number": 300}})),
            (b"\x12\x0b\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", json!({"inner": {"number": -1}})),
            (b"\x1a\x03\x0a\x01x", json!({"text": "x"})),
            (b"\x22\x02\x10\x01\x22\x00", json!({"inners": [{"count": 1}, {}]})),
            (b"\x2a\x06\x0a\x01k\x12\x01v\x2a\x02\x12\x00", json!({"labels": {"k": "v", "": ""}})),
            (b"\x32\x0b\x0a\x03cpu\x12\x04\x0a\x02\x31m", json!({"limits": {"cpu": "1m"}})),
            (b"\x3a\x07\x08\x00\x10\xab\x32\x1a\x00", json!({"port": 6443})),
            (b"\x3a\x07\x08\x01\x10\x00\x1a\x01p", json!({"port": "p"})),
            (b"\x40\x00\x48\x00", json!({"choice": false})),
            (b"\x40\x01\x48\x01", json!({"choice": true, "flag": true})),
            (b"\x52\x03\xff\xff\xff", json!({"unread": null})),
        ] {
            assert_eq!(decode(&OUTER, bytes).map(Value::from), Ok(expected), "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_no_message_is_an_error_that_says_where() {
        for (bytes, expected) in [
            (&b"\x0a\x02a"[..], "ends in the middle of a value"),
            (b"\x0a", "ends in the middle of a value"),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ends in the middle of a value"),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "has a number of more than 64 bits"),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "has a number of more than 64 bits"),
            (b"\x0d\x00\x00\x00\x00", "is of wire type 5, which is not the one of its kind"),
            (b"\x12\x02\x18\x80", "inner: ends in the middle of a value"),
            (b"\x12\x02\x0a\x00\x22\x00\x22\x03\x0a\x01\xff", "inners[1].text: is not in UTF-8"),
            (b"\x12\x02\x08\x01", "inner.text: is of wire type 0, which is not the one of its kind"),
            (
                b"\x22\x02\x20\x01",
                "inners[0]: has field 4, which Inner has not in the versions of Kubernetes that are known here",
            ),
        ] {
            let error = decode(&OUTER, bytes).unwrap_err();
            assert_eq!(error.to_string(), expected, "{bytes:x?}");
        }
    }
}
