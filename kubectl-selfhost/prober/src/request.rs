//! One kind of request of a load, and the bytes that go out for it.

use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::Full;
use hyper::body::Bytes;

use crate::config::{ConfigError, Mode};

const AGENT: &str = concat!("kubectl-selfhost-prober/", env!("CARGO_PKG_VERSION"));

/// A request to send again and again.
///
/// In the path and in the body, `{counter}` becomes a number that grows with each request of a stream and
/// `{stream}` a name unique to the stream (a DNS label), so that streams can write to objects of their own.
#[derive(Clone, Debug)]
pub struct RequestSpec {
    method: Method,
    path: String,
    write: Option<Write>,
    accepted: Vec<StatusCode>,
}

#[derive(Clone, Debug)]
struct Write {
    content_type: String,
    body: String,
}

/// A request with its placeholders filled in, cheap to build again for a replay.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    path: Uri,
    content_type: Option<HeaderValue>,
    body: Bytes,
    accepted: Vec<StatusCode>,
}

impl RequestSpec {
    /// Every cluster has this object and nearly every user may read it.
    pub const DEFAULT_PATH: &'static str = "/api/v1/namespaces/default";

    /// A `GET` of `path`.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), write: None, accepted: Vec::new() }
    }

    /// A write, for example `PATCH` of a `ConfigMap` with `application/merge-patch+json`.
    ///
    /// 409 counts as an answer too: it is what writers of one object get from a healthy server.
    pub fn write(
        method: Method,
        path: impl Into<String>,
        content_type: impl Into<String>,
        body: impl Into<String>,
    ) -> Self {
        let write = Write { content_type: content_type.into(), body: body.into() };
        Self { method, path: path.into(), write: Some(write), accepted: vec![StatusCode::CONFLICT] }
    }

    /// Counts an answer with this status as ok, besides 2xx.
    #[must_use]
    pub fn accept(mut self, status: StatusCode) -> Self {
        self.accepted.push(status);
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.fill("stream-0-0", 0).map(|_| ())
    }

    pub(crate) fn fill(&self, stream: &str, counter: u64) -> Result<Outgoing, ConfigError> {
        let counter = counter.to_string();
        let fill = |text: &str| text.replace("{stream}", stream).replace("{counter}", &counter);
        let path_error = || ConfigError::Path { path: self.path.clone() };
        if !self.path.starts_with('/') {
            return Err(path_error());
        }
        let content_type = self.write.as_ref().map(|write| {
            HeaderValue::from_str(&write.content_type)
                .map_err(|_| ConfigError::ContentType { content_type: write.content_type.clone() })
        });
        Ok(Outgoing {
            method: self.method.clone(),
            path: fill(&self.path).parse().map_err(|_| path_error())?,
            content_type: content_type.transpose()?,
            body: self.write.as_ref().map(|write| Bytes::from(fill(&write.body))).unwrap_or_default(),
            accepted: self.accepted.clone(),
        })
    }
}

impl Default for RequestSpec {
    fn default() -> Self {
        Self::get(Self::DEFAULT_PATH)
    }
}

impl Outgoing {
    /// The request as hyper wants it: HTTP/1.1 names the host in a header, HTTP/2 in the URI.
    pub(crate) fn to_request(
        &self,
        mode: Mode,
        authority: &str,
        headers: &HeaderMap,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let path = self.path.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(self.method.clone())
            .header(USER_AGENT, HeaderValue::from_static(AGENT))
            .header(ACCEPT, HeaderValue::from_static("application/json"));
        request = match mode {
            Mode::Reused => {
                let uri = Uri::builder().scheme("https").authority(authority).path_and_query(path).build()?;
                request.uri(uri).version(Version::HTTP_2)
            }
            Mode::New | Mode::ReusedHttp1 => request.uri(path).header(HOST, authority),
        };
        if mode == Mode::New {
            request = request.header(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(content_type) = &self.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let mut request = request.body(Full::new(self.body.clone()))?;
        for (name, value) in headers {
            request.headers_mut().append(name.clone(), value.clone());
        }
        Ok(request)
    }

    pub(crate) fn accepts(&self, status: StatusCode) -> bool {
        status.is_success() || self.accepted.contains(&status)
    }

    /// Go's `isReplayable`: safe to send again even if the server may have seen it.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD || self.method == Method::OPTIONS
    }

    pub(crate) fn describe(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_path_and_body() {
        let spec =
            RequestSpec::write(Method::PATCH, "/x/{stream}", "application/json", r#"{"n":"{counter}"}"#);
        let outgoing = spec.fill("s-1-2", 7).unwrap();
        assert_eq!(outgoing.describe(), "PATCH /x/s-1-2");
        assert_eq!(&outgoing.body[..], br#"{"n":"7"}"#);
    }

    #[test]
    fn unusable_requests_are_refused_before_anything_is_sent() {
        for path in ["", "api", "/a b", "https://example.com/x"] {
            assert_eq!(
                RequestSpec::get(path).check(),
                Err(ConfigError::Path { path: path.to_owned() }),
                "{path:?}"
            );
        }
        assert!(matches!(
            RequestSpec::write(Method::PUT, "/x", "a\nb", "").check(),
            Err(ConfigError::ContentType { .. })
        ));
    }
}
