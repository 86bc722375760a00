//! The bed: real Kubernetes clusters on one machine, for tests, benches and the demo.
//!
//! A cluster is unmodified kubeadm, kubelet, kube-apiserver, kube-controller-manager, kube-scheduler and etcd, built
//! from module sources into a cache. A node is a set of namespaces with a control group and a disk directory of its
//! own.
//!
//! Invariant: the control group of a cluster holds every process of it, from the first instruction on. So whatever a
//! killed run left behind is found again without any record of process ids, and nothing else is ever signalled.

#![cfg(target_os = "linux")]

pub mod apiserver;
pub mod bench;
pub mod binaries;
mod cgroup;
pub mod cli;
pub mod cluster;
mod command;
pub mod demo;
pub mod docs;
pub mod drive;
mod host;
pub mod images;
pub mod leaders;
pub mod left;
mod limits;
mod lock;
pub mod lockout;
mod packages;
pub mod paths;
pub mod process;
pub mod progress;
pub mod refusal;
pub mod tree;
pub mod verify;
pub mod wasm;

pub use apiserver::ApiServer;
pub use cluster::{Cluster, MoreImages, Node, Spec};
pub use progress::Progress;
pub use refusal::Refusal;
