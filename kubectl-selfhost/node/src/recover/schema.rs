//! The fields of a DaemonSet that can be part of a control plane, as Kubernetes numbers them.
//!
//! The numbers are those of `apps/v1/generated.proto` and `core/v1/generated.proto` in k8s.io/api v0.37.2, and of
//! `pkg/apis/meta/v1/generated.proto` in k8s.io/apimachinery v0.37.2. A number is never used twice (they are what is in
//! everybody's etcd), so that the table is right for every earlier version, and for a later one until it has a field
//! more.
//!
//! Invariant: every field of a message here has its line, if only as unread; what a static Pod cannot have is refused
//! by its name, in `manifest`.

use super::protobuf::{Field, Kind, Message, Type};

/// apps/v1: what is asked for. The rest is the DaemonSet's own business.
pub(super) const DAEMON_SET: Message = Message {
    name: "DaemonSet",
    fields: &[unread(1, "metadata"), one(2, "spec", &DAEMON_SET_SPEC), unread(3, "status")],
};

const DAEMON_SET_SPEC: Message = Message {
    name: "DaemonSetSpec",
    fields: &[
        unread(1, "selector"),
        one(2, "template", &POD_TEMPLATE_SPEC),
        unread(3, "updateStrategy"),
        count(4, "minReadySeconds"),
        number(6, "revisionHistoryLimit"),
    ],
};

const POD_TEMPLATE_SPEC: Message = Message {
    name: "PodTemplateSpec",
    fields: &[one(1, "metadata", &OBJECT_META), one(2, "spec", &POD_SPEC)],
};

/// meta/v1: of a template, of which labels and annotations reach a Pod.
const OBJECT_META: Message = Message {
    name: "ObjectMeta",
    fields: &[
        text(1, "name"),
        text(2, "generateName"),
        text(3, "namespace"),
        text(4, "selfLink"),
        text(5, "uid"),
        text(6, "resourceVersion"),
        count(7, "generation"),
        unread(8, "creationTimestamp"),
        unread(9, "deletionTimestamp"),
        number(10, "deletionGracePeriodSeconds"),
        map(11, "labels"),
        map(12, "annotations"),
        unreads(13, "ownerReferences"),
        texts(14, "finalizers"),
        unreads(17, "managedFields"),
    ],
};

const POD_SPEC: Message = Message {
    name: "PodSpec",
    fields: &[
        many(1, "volumes", &VOLUME),
        many(2, "containers", &CONTAINER),
        text(3, "restartPolicy"),
        number(4, "terminationGracePeriodSeconds"),
        number(5, "activeDeadlineSeconds"),
        text(6, "dnsPolicy"),
        map(7, "nodeSelector"),
        text(8, "serviceAccountName"),
        text(9, "serviceAccount"),
        text(10, "nodeName"),
        flag(11, "hostNetwork"),
        flag(12, "hostPID"),
        flag(13, "hostIPC"),
        one(14, "securityContext", &POD_SECURITY_CONTEXT),
        unreads(15, "imagePullSecrets"),
        text(16, "hostname"),
        text(17, "subdomain"),
        unread(18, "affinity"),
        text(19, "schedulerName"),
        many(20, "initContainers", &CONTAINER),
        choice(21, "automountServiceAccountToken"),
        many(22, "tolerations", &TOLERATION),
        many(23, "hostAliases", &HOST_ALIAS),
        text(24, "priorityClassName"),
        number(25, "priority"),
        one(26, "dnsConfig", &POD_DNS_CONFIG),
        choice(27, "shareProcessNamespace"),
        unreads(28, "readinessGates"),
        text(29, "runtimeClassName"),
        choice(30, "enableServiceLinks"),
        text(31, "preemptionPolicy"),
        quantities(32, "overhead"),
        unreads(33, "topologySpreadConstraints"),
        unreads(34, "ephemeralContainers"),
        choice(35, "setHostnameAsFQDN"),
        one(36, "os", &POD_OS),
        choice(37, "hostUsers"),
        unreads(38, "schedulingGates"),
        unreads(39, "resourceClaims"),
        one(40, "resources", &RESOURCE_REQUIREMENTS),
        text(41, "hostnameOverride"),
        unread(43, "schedulingGroup"),
        unreads(44, "evictionResponders"),
    ],
};

const VOLUME: Message = Message { name: "Volume", fields: &[text(1, "name"), inline(2, &VOLUME_SOURCE)] };

const VOLUME_SOURCE: Message = Message {
    name: "VolumeSource",
    fields: &[
        one(1, "hostPath", &HOST_PATH_VOLUME_SOURCE),
        one(2, "emptyDir", &EMPTY_DIR_VOLUME_SOURCE),
        unread(3, "gcePersistentDisk"),
        unread(4, "awsElasticBlockStore"),
        unread(5, "gitRepo"),
        unread(6, "secret"),
        unread(7, "nfs"),
        unread(8, "iscsi"),
        unread(9, "glusterfs"),
        unread(10, "persistentVolumeClaim"),
        unread(11, "rbd"),
        unread(12, "flexVolume"),
        unread(13, "cinder"),
        unread(14, "cephfs"),
        unread(15, "flocker"),
        unread(16, "downwardAPI"),
        unread(17, "fc"),
        unread(18, "azureFile"),
        unread(19, "configMap"),
        unread(20, "vsphereVolume"),
        unread(21, "quobyte"),
        unread(22, "azureDisk"),
        unread(23, "photonPersistentDisk"),
        unread(24, "portworxVolume"),
        unread(25, "scaleIO"),
        unread(26, "projected"),
        unread(27, "storageos"),
        unread(28, "csi"),
        unread(29, "ephemeral"),
        unread(30, "image"),
    ],
};

const HOST_PATH_VOLUME_SOURCE: Message =
    Message { name: "HostPathVolumeSource", fields: &[text(1, "path"), text(2, "type")] };

const EMPTY_DIR_VOLUME_SOURCE: Message = Message {
    name: "EmptyDirVolumeSource",
    fields: &[text(1, "medium"), quantity(2, "sizeLimit"), number(3, "mode")],
};

const CONTAINER: Message = Message {
    name: "Container",
    fields: &[
        text(1, "name"),
        text(2, "image"),
        texts(3, "command"),
        texts(4, "args"),
        text(5, "workingDir"),
        many(6, "ports", &CONTAINER_PORT),
        many(7, "env", &ENV_VAR),
        one(8, "resources", &RESOURCE_REQUIREMENTS),
        many(9, "volumeMounts", &VOLUME_MOUNT),
        one(10, "livenessProbe", &PROBE),
        one(11, "readinessProbe", &PROBE),
        one(12, "lifecycle", &LIFECYCLE),
        text(13, "terminationMessagePath"),
        text(14, "imagePullPolicy"),
        one(15, "securityContext", &SECURITY_CONTEXT),
        flag(16, "stdin"),
        flag(17, "stdinOnce"),
        flag(18, "tty"),
        unreads(19, "envFrom"),
        text(20, "terminationMessagePolicy"),
        unreads(21, "volumeDevices"),
        one(22, "startupProbe", &PROBE),
        many(23, "resizePolicy", &CONTAINER_RESIZE_POLICY),
        text(24, "restartPolicy"),
        unreads(25, "restartPolicyRules"),
    ],
};

const CONTAINER_PORT: Message = Message {
    name: "ContainerPort",
    fields: &[
        text(1, "name"),
        count(2, "hostPort"),
        number(3, "containerPort"),
        text(4, "protocol"),
        text(5, "hostIP"),
    ],
};

const CONTAINER_RESIZE_POLICY: Message =
    Message { name: "ContainerResizePolicy", fields: &[text(1, "resourceName"), text(2, "restartPolicy")] };

const ENV_VAR: Message = Message {
    name: "EnvVar",
    fields: &[text(1, "name"), text(2, "value"), one(3, "valueFrom", &ENV_VAR_SOURCE)],
};

const ENV_VAR_SOURCE: Message = Message {
    name: "EnvVarSource",
    fields: &[
        one(1, "fieldRef", &OBJECT_FIELD_SELECTOR),
        one(2, "resourceFieldRef", &RESOURCE_FIELD_SELECTOR),
        unread(3, "configMapKeyRef"),
        unread(4, "secretKeyRef"),
        unread(5, "fileKeyRef"),
    ],
};

const OBJECT_FIELD_SELECTOR: Message =
    Message { name: "ObjectFieldSelector", fields: &[text(1, "apiVersion"), text(2, "fieldPath")] };

const RESOURCE_FIELD_SELECTOR: Message = Message {
    name: "ResourceFieldSelector",
    fields: &[text(1, "containerName"), text(2, "resource"), quantity(3, "divisor")],
};

const RESOURCE_REQUIREMENTS: Message = Message {
    name: "ResourceRequirements",
    fields: &[quantities(1, "limits"), quantities(2, "requests"), unreads(3, "claims")],
};

const VOLUME_MOUNT: Message = Message {
    name: "VolumeMount",
    fields: &[
        text(1, "name"),
        flag(2, "readOnly"),
        text(3, "mountPath"),
        text(4, "subPath"),
        text(5, "mountPropagation"),
        text(6, "subPathExpr"),
        text(7, "recursiveReadOnly"),
        texts(8, "bindMountOptions"),
    ],
};

const PROBE: Message = Message {
    name: "Probe",
    fields: &[
        inline(1, &PROBE_HANDLER),
        count(2, "initialDelaySeconds"),
        count(3, "timeoutSeconds"),
        count(4, "periodSeconds"),
        count(5, "successThreshold"),
        count(6, "failureThreshold"),
        number(7, "terminationGracePeriodSeconds"),
    ],
};

const PROBE_HANDLER: Message = Message {
    name: "ProbeHandler",
    fields: &[
        one(1, "exec", &EXEC_ACTION),
        one(2, "httpGet", &HTTP_GET_ACTION),
        one(3, "tcpSocket", &TCP_SOCKET_ACTION),
        one(4, "grpc", &GRPC_ACTION),
    ],
};

const LIFECYCLE: Message = Message {
    name: "Lifecycle",
    fields: &[
        one(1, "postStart", &LIFECYCLE_HANDLER),
        one(2, "preStop", &LIFECYCLE_HANDLER),
        text(3, "stopSignal"),
    ],
};

const LIFECYCLE_HANDLER: Message = Message {
    name: "LifecycleHandler",
    fields: &[
        one(1, "exec", &EXEC_ACTION),
        one(2, "httpGet", &HTTP_GET_ACTION),
        one(3, "tcpSocket", &TCP_SOCKET_ACTION),
        one(4, "sleep", &SLEEP_ACTION),
    ],
};

const EXEC_ACTION: Message = Message { name: "ExecAction", fields: &[texts(1, "command")] };

const HTTP_GET_ACTION: Message = Message {
    name: "HTTPGetAction",
    fields: &[
        text(1, "path"),
        int_or_string(2, "port"),
        text(3, "host"),
        text(4, "scheme"),
        many(5, "httpHeaders", &HTTP_HEADER),
        text(6, "protocol"),
    ],
};

const HTTP_HEADER: Message = Message { name: "HTTPHeader", fields: &[text(1, "name"), text(2, "value")] };

const TCP_SOCKET_ACTION: Message =
    Message { name: "TCPSocketAction", fields: &[int_or_string(1, "port"), text(2, "host")] };

const GRPC_ACTION: Message =
    Message { name: "GRPCAction", fields: &[number(1, "port"), text(2, "service"), text(3, "mode")] };

const SLEEP_ACTION: Message = Message { name: "SleepAction", fields: &[number(1, "seconds")] };

const SECURITY_CONTEXT: Message = Message {
    name: "SecurityContext",
    fields: &[
        one(1, "capabilities", &CAPABILITIES),
        choice(2, "privileged"),
        one(3, "seLinuxOptions", &SE_LINUX_OPTIONS),
        number(4, "runAsUser"),
        choice(5, "runAsNonRoot"),
        choice(6, "readOnlyRootFilesystem"),
        choice(7, "allowPrivilegeEscalation"),
        number(8, "runAsGroup"),
        text(9, "procMount"),
        unread(10, "windowsOptions"),
        one(11, "seccompProfile", &PROFILE),
        one(12, "appArmorProfile", &PROFILE),
    ],
};

const POD_SECURITY_CONTEXT: Message = Message {
    name: "PodSecurityContext",
    fields: &[
        one(1, "seLinuxOptions", &SE_LINUX_OPTIONS),
        number(2, "runAsUser"),
        choice(3, "runAsNonRoot"),
        numbers(4, "supplementalGroups"),
        number(5, "fsGroup"),
        number(6, "runAsGroup"),
        many(7, "sysctls", &SYSCTL),
        unread(8, "windowsOptions"),
        text(9, "fsGroupChangePolicy"),
        one(10, "seccompProfile", &PROFILE),
        one(11, "appArmorProfile", &PROFILE),
        text(12, "supplementalGroupsPolicy"),
        text(13, "seLinuxChangePolicy"),
    ],
};

const CAPABILITIES: Message = Message { name: "Capabilities", fields: &[texts(1, "add"), texts(2, "drop")] };

const SE_LINUX_OPTIONS: Message = Message {
    name: "SELinuxOptions",
    fields: &[text(1, "user"), text(2, "role"), text(3, "type"), text(4, "level")],
};

/// `SeccompProfile` and `AppArmorProfile`.
const PROFILE: Message = Message { name: "profile", fields: &[text(1, "type"), text(2, "localhostProfile")] };

const SYSCTL: Message = Message { name: "Sysctl", fields: &[text(1, "name"), text(2, "value")] };

const TOLERATION: Message = Message {
    name: "Toleration",
    fields: &[
        text(1, "key"),
        text(2, "operator"),
        text(3, "value"),
        text(4, "effect"),
        number(5, "tolerationSeconds"),
    ],
};

const HOST_ALIAS: Message = Message { name: "HostAlias", fields: &[text(1, "ip"), texts(2, "hostnames")] };

const POD_DNS_CONFIG: Message = Message {
    name: "PodDNSConfig",
    fields: &[texts(1, "nameservers"), texts(2, "searches"), many(3, "options", &POD_DNS_CONFIG_OPTION)],
};

const POD_DNS_CONFIG_OPTION: Message =
    Message { name: "PodDNSConfigOption", fields: &[text(1, "name"), text(2, "value")] };

const POD_OS: Message = Message { name: "PodOS", fields: &[text(1, "name")] };

const fn field(number: u64, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind }
}

pub(super) const fn text(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::One(Type::Text))
}

pub(super) const fn texts(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::Many(Type::Text))
}

pub(super) const fn flag(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::One(Type::Flag))
}

pub(super) const fn choice(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::One(Type::Choice))
}

pub(super) const fn count(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::One(Type::Count))
}

pub(super) const fn number(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::One(Type::Number))
}

const fn numbers(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::Many(Type::Number))
}

pub(super) const fn one(number: u64, name: &'static str, message: &'static Message) -> Field {
    field(number, name, Kind::One(Type::Of(message)))
}

pub(super) const fn many(number: u64, name: &'static str, message: &'static Message) -> Field {
    field(number, name, Kind::Many(Type::Of(message)))
}

pub(super) const fn inline(number: u64, message: &'static Message) -> Field {
    field(number, message.name, Kind::Inline(message))
}

const fn quantity(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::One(Type::Quantity))
}

pub(super) const fn map(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::Map(Type::Text))
}

pub(super) const fn quantities(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::Map(Type::Quantity))
}

pub(super) const fn int_or_string(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::One(Type::IntOrString))
}

pub(super) const fn unread(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::One(Type::Unread))
}

const fn unreads(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::Many(Type::Unread))
}
