//! Several nodes, and several clusters side by side.

use std::time::Duration;

use anyhow::{Result, ensure};
use selfhost_tests::{Cluster, MoreImages, Progress, Spec};

use crate::lifecycle::await_some;
use crate::traces::Marks;

#[test]
fn three_control_planes_behind_a_balancer_and_a_worker() -> Result<()> {
    let mut spec = Spec::new("e2e-bed-three".parse()?);
    (spec.control_planes, spec.workers) = (3, 1);
    let cluster = Cluster::up(&spec, &Progress::stderr())?;
    let marks = Marks::of(&cluster)?;
    assert_eq!(cluster.control_planes(), ["cp1", "cp2", "cp3"]);
    assert_eq!(cluster.endpoint(), format!("{}:6443", cluster.node_ip("lb")?));
    let names = ["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"];
    assert_eq!(cluster.kubectl(&names)?, "cp1 cp2 cp3 w1");

    pods_reach_each_other_across_nodes(&cluster)?;

    // One of three is gone: two members of etcd are enough, and the balancer finds out within two checks.
    cluster.power_cut("cp2")?;
    std::thread::sleep(Duration::from_secs(3));
    for attempt in 0..20 {
        let answer = cluster.kubectl(&["get", "--raw", "/readyz", "--request-timeout=5s"]);
        ensure!(answer.is_ok(), "request {attempt} of 20 after the power cut: {answer:?}");
    }
    cluster.boot("cp2")?;
    let ready = ["-n", "kube-system", "get", "pod", "kube-apiserver-cp2", "--request-timeout=5s"];
    let ready = [&ready[..], &["-o=jsonpath={.status.containerStatuses[0].ready}"]].concat();
    let address = format!("https://{}:6443/readyz", cluster.node_ip("cp2")?);
    await_some("cp2 to come back", || {
        let answers = cluster.exec("client", &["curl", "-sk", "--max-time", "2", &address]);
        let is_ready = cluster.kubectl(&ready).is_ok_and(|text| text == "true");
        Ok((answers.is_ok_and(|text| text == "ok") && is_ready).then_some(()))
    })?;
    drop(cluster);
    assert_eq!(marks.found(), []);
    Ok(())
}

fn pods_reach_each_other_across_nodes(cluster: &Cluster) -> Result<()> {
    // A web server that the machine has anyway: etcd, asked for its health.
    let etcd = serde_json::json!({"spec": {
        "nodeName": "w1",
        "containers": [{"name": "web", "image": "registry.k8s.io/etcd:3.6.8-0", "imagePullPolicy": "Never",
                        "command": ["etcd", "--listen-client-urls=http://0.0.0.0:2379",
                                    "--advertise-client-urls=http://127.0.0.1:2379", "--data-dir=/tmp/etcd"]}],
    }})
    .to_string();
    await_some("a Pod on the worker", || {
        let run =
            ["run", "web", "--image=registry.k8s.io/etcd:3.6.8-0", "--labels=app=web", "--overrides", &etcd];
        Ok(cluster.kubectl(&run).ok())
    })?;
    cluster.kubectl(&["expose", "pod", "web", "--port=80", "--target-port=2379"])?;
    let address = cluster.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    let url = format!("http://{address}/health");
    for node in ["cp1", "cp3", "w1", "client"] {
        await_some(&format!("the Service of a Pod on w1, from {node}"), || {
            let answer = cluster.exec(node, &["curl", "-s", "--max-time", "2", &url]);
            Ok(answer.ok().filter(|text| text.contains("\"health\":\"true\"")))
        })?;
    }
    Ok(())
}

#[test]
fn clusters_side_by_side_do_not_share_anything() -> Result<()> {
    let up = |name: &str, version: &str| {
        let mut spec = Spec::new(name.parse()?);
        spec.version = version.parse()?;
        spec.more = MoreImages::NONE;
        Cluster::up(&spec, &Progress::stderr())
    };
    // At once: names, subnets and the cache are claimed under locks.
    let (old, new) = std::thread::scope(|scope| {
        let old = scope.spawn(|| up("e2e-bed-old", "v1.36.3"));
        let new = scope.spawn(|| up("e2e-bed-new", "v1.37.2"));
        (old.join(), new.join())
    });
    let (Ok(old), Ok(new)) = (old, new) else { anyhow::bail!("a thread panicked") };
    let (old, new) = (old?, new?);
    ensure!(old.endpoint() != new.endpoint(), "both are at {}", old.endpoint());
    for (cluster, version) in [(&old, "v1.36.3"), (&new, "v1.37.2")] {
        let kubelet = ["get", "node", "cp1", "-o", "jsonpath={.status.nodeInfo.kubeletVersion}"];
        assert_eq!(cluster.kubectl(&kubelet)?, version);
        ensure!(cluster.kubectl(&["get", "--raw", "/version"])?.contains(version), "not {version}");
    }
    old.kubectl(&["create", "configmap", "mine"])?;
    let get = ["get", "configmap", "mine", "--ignore-not-found", "-o", "name"];
    assert_eq!(new.kubectl(&get)?, "");
    let listed: Vec<String> = Cluster::list()?.into_iter().map(|listed| listed.name.to_string()).collect();
    for name in ["e2e-bed-old", "e2e-bed-new"] {
        ensure!(listed.iter().any(|listed| listed == name), "{name} is not among {listed:?}");
    }

    let marks = Marks::of(&new)?;
    drop(new);
    assert_eq!(marks.found(), []);
    assert_eq!(old.kubectl(&get)?, "configmap/mine\n", "the other cluster was hurt");
    let marks = Marks::of(&old)?;
    drop(old);
    assert_eq!(marks.found(), []);
    Ok(())
}
