#!/bin/sh
# Process 1 of a node until it becomes `pause`: turns fresh namespaces into a machine of its own.
#
#   boot.sh NODE_DIR BINARIES_DIR HOST_NAME POD_ROUTES...
#
# The root file system stays the host's. What a node writes (/var, /etc/kubernetes, /etc/cni, /etc/containerd) lies on
# its disk, NODE_DIR/disk; what a machine forgets when it loses power (/run, /sys, the network) belongs to these
# namespaces and goes with them.
set -eu
node=$1
binaries=$2
name=$3
shift 3

hostname "$name"

# /run is about to be hidden, and either directory may lie in it or in /var: park them first.
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/bed /mnt/binaries
mount --bind "$node" /mnt/bed
mount --bind "$binaries" /mnt/binaries
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/bed /run/bed-binaries /run/home /run/lock /run/services
mount --move /mnt/bed /run/bed
mount --move /mnt/binaries /run/bed-binaries
umount /mnt
disk=/run/bed/disk

# A sysfs of this network namespace, and control groups whose root is this node's own group.
mount -t sysfs sysfs /sys
if [ "$(cat /run/bed/cgroups)" = unified ]; then
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mkdir -p /sys/fs/cgroup/init
  echo 1 > /sys/fs/cgroup/init/cgroup.procs
else
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  while read -r directory options; do
    mkdir "/sys/fs/cgroup/$directory"
    mount -t cgroup -o "$options" cgroup "/sys/fs/cgroup/$directory"
  done < /run/bed/cgroups
fi

# Mount points and stray files that Kubernetes creates outside /var go to memory, not to the host.
for directory in /etc /usr/libexec; do
  scratch=/run/scratch$directory
  mkdir -p "$scratch/upper" "$scratch/work"
  mount -t overlay -o "lowerdir=$directory,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$directory"
done
for directory in kubernetes cni containerd haproxy; do
  mkdir -p "$disk/etc/$directory" "/etc/$directory"
  mount --bind "$disk/etc/$directory" "/etc/$directory"
done
# There is no name server in a bed; the kubelet wants the file.
rm -f /etc/resolv.conf
echo '# no name server in a bed' > /etc/resolv.conf

mkdir -p "$disk/var/lib" "$disk/var/log" "$disk/var/cache" "$disk/var/tmp"
ln -sfn /run "$disk/var/run"
ln -sfn /run/lock "$disk/var/lock"
mount --bind "$disk/var" /var

# The kubelet sets these for the whole machine when they differ; here it finds them as it wants them.
mkdir /run/sysctl
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  path=${setting%%=*}
  file=/run/sysctl/$(echo "$path" | tr / .)
  echo "${setting#*=}" > "$file"
  mount --bind "$file" "/proc/sys/$path"
done

# Mounts of Pods have to reach the containers that were started earlier.
mount --make-rshared /

# The cable is plugged in from outside once this process is known.
attempts=0
until ip link show eth0 > /dev/null 2>&1; do
  attempts=$((attempts + 1))
  [ "$attempts" -lt 200 ] || { echo "eth0 did not appear within 10 s" >&2; exit 1; }
  sleep 0.05
done
if [ -e /sys/fs/cgroup/cgroup.subtree_control ]; then
  # A group with processes in it cannot have children with controllers. By now the parent of this process, which is
  # outside of its namespaces, was moved away too.
  for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control
  done
fi
. /run/bed/network
ip link set lo up
ip address add "$ADDRESS/24" dev eth0
ip link set eth0 up
ip route add default via "$GATEWAY"
echo 1 > /proc/sys/net/ipv4/ip_forward
# Pods of the other nodes.
for route in "$@"; do
  ip route add "${route%=*}" via "${route#*=}"
done

export PATH=/run/bed/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run/home
for service in $(cat /run/bed/enabled); do
  systemctl start "$service"
done
touch /run/booted
exec /run/bed-binaries/tools/pause
