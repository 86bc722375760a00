//! Talking to an API server that is being replaced meanwhile.
//!
//! Invariant: every call here is idempotent, and is made again when the connection went away or the server asked for
//! it. Waits ask again at short intervals: a watch would be held by the very server that an operation replaces.

use std::future::Future;
use std::time::{Duration, Instant};

use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use selfhost_core::labels;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How long one answer may take before the question is asked again.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a call is repeated before its error is final: longer than any server in a swap is out of reach.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a wait asks.
const INTERVAL: Duration = Duration::from_millis(200);

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The API server's answer, or none, as the cause.
    #[error("cannot {doing}")]
    Call {
        /// What was attempted: `create pod kube-system/x`.
        doing: String,
        /// What the client or the server says.
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer within the time that a call is repeated.
    #[error("cannot {doing}: no answer for {} s", PATIENCE.as_secs())]
    Silence {
        /// What was attempted.
        doing: String,
    },
    /// What was waited for did not come.
    #[error("gave up waiting for {what} after {} s", after.as_secs())]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
    },
}

impl ApiError {
    /// Whether the server was not there, or not able to answer, rather than of another mind.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Call { source, .. } => is_transient(source),
            Self::Silence { .. } => true,
            Self::Timeout { .. } => false,
        }
    }
}

/// Whether the same call may well succeed a moment later.
pub fn is_transient(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 408 | 429 | 500 | 502 | 503 | 504),
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// The HTTP status of the API server's refusal.
pub fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Makes the call, and makes it again while it fails in passing.
pub async fn call<T, F, Fut>(doing: impl Into<String>, mut ask: F) -> Result<T, ApiError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = kube::Result<T>>,
{
    let doing = doing.into();
    let begin = Instant::now();
    loop {
        match tokio::time::timeout(ANSWER, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if !is_transient(&error) || begin.elapsed() > PATIENCE => {
                return Err(ApiError::Call { doing, source: Box::new(error) });
            }
            Err(_) if begin.elapsed() > PATIENCE => return Err(ApiError::Silence { doing }),
            Ok(Err(_)) | Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}

/// Asks until there is an answer, at most for `limit`.
pub async fn until<T, E, F, Fut>(what: impl Into<String>, limit: Duration, mut ask: F) -> Result<T, E>
where
    E: From<ApiError>,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>, E>>,
{
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if begin.elapsed() > limit {
            return Err(ApiError::Timeout { what: what.into(), after: limit }.into());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The object, or `None` where there is none.
pub async fn get<K>(api: &Api<K>, name: &str) -> Result<Option<K>, ApiError>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    call(format!("read {name}"), || api.get_opt(name)).await
}

/// Deletes exactly this object, not one that took its name. Succeeds where it is gone already.
pub async fn delete<K>(api: &Api<K>, object: &K) -> Result<(), ApiError>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let name = object.name_any();
    let preconditions = Preconditions { uid: object.uid(), resource_version: None };
    let parameters = DeleteParams::default().preconditions(preconditions);
    let deleted = call(format!("delete {name}"), || async {
        match api.delete(&name, &parameters).await {
            // Gone, or gone and made anew under the same name.
            Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(()),
            other => other.map(drop),
        }
    });
    deleted.await
}

/// Waits until exactly this object is gone.
pub async fn gone<K>(api: &Api<K>, object: &K, limit: Duration) -> Result<(), ApiError>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    gone_or(api, object, limit, |_| false).await
}

/// Waits until exactly this object is gone, or is as good as that.
pub async fn gone_or<K>(
    api: &Api<K>,
    object: &K,
    limit: Duration,
    is_over: impl Fn(&K) -> bool,
) -> Result<(), ApiError>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let name = object.name_any();
    let uid = object.uid();
    until(format!("the end of {name}"), limit, || async {
        let now = get(api, &name).await?;
        Ok(now.is_none_or(|now| now.uid() != uid || is_over(&now)).then_some(()))
    })
    .await
}

/// Creates the object; `None` where one of its name is there already, perhaps ours from an answer that was lost.
pub async fn create<K>(api: &Api<K>, object: &K) -> Result<Option<K>, ApiError>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let parameters = post_parameters();
    call(format!("create {} {}", K::kind(&()), object.name_any()), || async {
        unless_conflict(api.create(&parameters, object).await)
    })
    .await
}

/// Replaces the object as it was read; `None` where somebody changed it meanwhile.
pub async fn replace<K>(api: &Api<K>, object: &K) -> Result<Option<K>, ApiError>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let parameters = post_parameters();
    call(format!("write {} {}", K::kind(&()), object.name_any()), || async {
        unless_conflict(api.replace(&object.name_any(), &parameters, object).await)
    })
    .await
}

/// Server-side apply as our field manager, which takes the fields that it names.
pub async fn apply<K>(api: &Api<K>, object: &K) -> Result<(), ApiError>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    patch(api, &object.name_any(), &PatchParams::apply(labels::FIELD_MANAGER).force(), &Patch::Apply(object))
        .await
}

/// Server-side apply of which nothing is stored.
pub async fn dry_run<K>(api: &Api<K>, object: &K) -> Result<(), ApiError>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let parameters = PatchParams::apply(labels::FIELD_MANAGER).force().dry_run();
    patch(api, &object.name_any(), &parameters, &Patch::Apply(object)).await
}

/// A JSON merge patch (RFC 7386).
pub async fn merge<K>(api: &Api<K>, name: &str, value: Value) -> Result<(), ApiError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    patch(api, name, &patch_parameters(), &Patch::Merge(value)).await
}

/// A JSON patch (RFC 6902).
pub async fn json_patch<K>(api: &Api<K>, name: &str, operations: json_patch::Patch) -> Result<(), ApiError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    patch(api, name, &patch_parameters(), &Patch::Json::<()>(operations)).await
}

async fn patch<K, P>(
    api: &Api<K>,
    name: &str,
    parameters: &PatchParams,
    patch: &Patch<P>,
) -> Result<(), ApiError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    P: Serialize + std::fmt::Debug,
{
    call(format!("write {} {name}", K::kind(&())), || api.patch(name, parameters, patch)).await.map(drop)
}

fn post_parameters() -> PostParams {
    PostParams { field_manager: Some(labels::FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn patch_parameters() -> PatchParams {
    PatchParams { field_manager: Some(labels::FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// Losing to somebody else is an answer, not an error.
fn unless_conflict<T>(answer: kube::Result<T>) -> kube::Result<Option<T>> {
    match answer {
        Err(error) if code(&error) == Some(409) => Ok(None),
        other => other.map(Some),
    }
}
