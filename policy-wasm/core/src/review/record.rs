//! What an edit of a DaemonSet is compared with: what it was before, and where there is no before, what serves now.
//!
//! A DaemonSet that is deleted and made again has no `oldObject`. What it is compared with then is what runs on the
//! nodes: the component's Pods, and else the templates that each standby carries.

use serde_json::Value;

use super::facts::{Facts, Lookup, Unknown};
use super::object::Object;
use super::pod::{Pod, component_of};
use super::{Operation, Request};
use crate::component::Component;
use crate::labels;

/// An edit of a component's DaemonSet.
#[derive(Debug, Clone)]
pub struct Edit<'a> {
    /// The component.
    pub component: Component,
    /// What it becomes.
    pub new: Pod<'a>,
    /// What it was; none where nothing is known.
    pub old: Option<Before<'a>>,
    /// Whether the template differs from the old one, as it is written.
    pub is_changed: bool,
}

/// What an edit is compared with.
#[derive(Debug, Clone)]
pub enum Before<'a> {
    /// The same object, before the edit.
    Object(Pod<'a>),
    /// A Pod that runs now.
    Running(Pod<'a>),
    /// A template that a standby stands in for.
    Kept(Box<Value>),
}

impl Before<'_> {
    /// As a Pod.
    pub fn pod(&self) -> Pod<'_> {
        match self {
            Self::Object(pod) | Self::Running(pod) => *pod,
            Self::Kept(template) => Pod(template),
        }
    }
}

impl<'a> Edit<'a> {
    /// The edit that a request makes to a component's DaemonSet; `None` for any other request.
    pub fn of(request: &'a Request, facts: &'a Facts) -> Result<Option<Self>, Unknown> {
        let Some(component) = component_of(request).filter(|_| request.writes()) else { return Ok(None) };
        let new = Pod::template_of(&request.object);
        if request.operation == Operation::Update {
            let old = Pod::template_of(&request.old_object);
            let is_changed = new.0 != old.0;
            return Ok(Some(Self { component, new, old: Some(Before::Object(old)), is_changed }));
        }
        Ok(Some(Self { component, new, old: running(component, facts)?, is_changed: true }))
    }

    /// The edit, if it touches the template.
    pub fn of_template(request: &'a Request, facts: &'a Facts) -> Result<Option<Self>, Unknown> {
        Ok(Self::of(request, facts)?.filter(|edit| edit.is_changed))
    }
}

/// What serves as `component` now.
pub fn running(component: Component, facts: &Facts) -> Result<Option<Before<'_>>, Unknown> {
    let pods = facts.items(&Lookup::control_plane_pods())?;
    let own = pods.iter().map(Pod).filter(|pod| pod.component() == Some(component));
    // One that is ready before one that is not.
    if let Some(pod) = own.max_by_key(|pod| Object(pod.0).is_ready()) {
        return Ok(Some(Before::Running(pod)));
    }
    Ok(pods.iter().find_map(|pod| kept(component, pod)).map(|it| Before::Kept(Box::new(it))))
}

/// The template of `component` that a standby's Pod carries.
fn kept(component: Component, standby: &Value) -> Option<Value> {
    let pod = Pod(standby);
    let is_standby = pod.is_mirror() && pod.labels().get(labels::COMPONENT) == Some(&labels::STANDBY);
    let text = *Object(standby).annotations().get(labels::TEMPLATES).filter(|_| is_standby)?;
    let templates: Value = serde_json::from_str(text).ok()?;
    let template = &templates[component.name()];
    template.is_object().then(|| template.clone())
}
