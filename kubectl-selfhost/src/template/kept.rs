//! What a node's kept static manifests hold, as far as the way back depends on it.
//!
//! Invariant: written on the node in one call with the label that hands it to the DaemonSet, and it stays there until
//! the node is static again, so that an interrupted unpivot still knows it. Pure.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{Node, PodTemplateSpec};
use selfhost_core::component::Component;
use selfhost_core::{flags, labels};

use super::normalize::SHUTDOWN_FLAGS;
use super::{hash, image};

/// What one kept manifest holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The hash of the template that the manifest becomes, without what differs by version alone.
    pub shape: String,
    /// The component's image.
    pub image: String,
}

/// The text is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a shape and an image")]
pub struct NotKept;

impl Kept {
    /// What a manifest holds from which `normalize` makes `template`.
    pub fn of(component: Component, template: &PodTemplateSpec) -> Option<Self> {
        Some(Self { shape: shape(component, template), image: image(component, template)?.to_owned() })
    }

    /// What the node says of its kept manifest; `None` where it says nothing.
    pub fn on(component: Component, node: &Node) -> Option<Self> {
        node.metadata.annotations.as_ref()?.get(&annotation(component))?.parse().ok()
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.shape, self.image)
    }
}

impl FromStr for Kept {
    type Err = NotKept;

    fn from_str(text: &str) -> Result<Self, NotKept> {
        let (shape, image) = text.split_once(' ').ok_or(NotKept)?;
        if shape.is_empty() || image.is_empty() || image.contains(' ') {
            return Err(NotKept);
        }
        Ok(Self { shape: shape.to_owned(), image: image.to_owned() })
    }
}

/// The node's annotation that carries it: `kubectl-selfhost.dev/kube-apiserver.kept`.
pub fn annotation(component: Component) -> String {
    format!("{}.kept", labels::node_label(component))
}

/// The hash of the template without the image, and without the flags that are added by version.
fn shape(component: Component, template: &PodTemplateSpec) -> String {
    let mut template = template.clone();
    for container in template.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
        if container.name == component.name() {
            container.image = None;
            for (flag, value, _) in SHUTDOWN_FLAGS {
                let command = container.command.get_or_insert_default();
                if flags::value(command, flag) == Some(value) {
                    flags::remove(command, flag);
                }
            }
        }
    }
    hash(&template)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::pivot;
    use crate::plan::tests::{IMAGE, kubeadm};
    use crate::template::at_version;

    #[test]
    fn the_version_alone_does_not_change_the_shape() {
        let plan = pivot::plan(&kubeadm(1, "v1.36.3"), IMAGE, None).unwrap();
        for (component, template) in plan.templates {
            let kept = Kept::of(component, &template).unwrap();
            assert_eq!(kept.to_string().parse(), Ok(kept.clone()));
            let newer = at_version(component, template.clone(), &"v1.37.2".parse().unwrap(), None, None);
            let then = Kept::of(component, &newer).unwrap();
            assert_eq!(then.shape, kept.shape);
            assert_ne!(then.image, kept.image);
            let mut edited = template;
            let command = edited.spec.as_mut().unwrap().containers[0].command.as_mut().unwrap();
            command.push("--v=4".to_owned());
            assert_ne!(Kept::of(component, &edited).unwrap().shape, kept.shape);
        }
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        for text in ["", "abc", " image", "shape ", "shape image more"] {
            assert_eq!(text.parse::<Kept>(), Err(NotKept), "{text:?}");
        }
    }
}
