#!/usr/bin/env bash
# The node, as the first process of namespaces of its own (network, mounts, processes): what it makes there goes with
# it, and nothing of the machine is seen to change. Arguments: the folder of the node, that of kubelet, kube-proxy and
# kube-scheduler, and the cgroup of the pods.
set -euo pipefail
folder=$1 programs=$2 cgroup=$3

# The places where the programs keep their things are the node's own.
private_places() {
  mkdir -p "$folder"/{lib,log,pods}
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p /run/node /run/lock
  mount --bind "$folder" /run/node
  mount --bind "$folder/lib" /var/lib
  mount --bind "$folder/log" /var/log
  # A volume that the kubelet mounts is to be seen by the runtime.
  mount --make-rshared /
}

# The kubelet wants these settings of the kernel, which are those of the whole machine: it is shown a file with each.
settings_of_the_kernel() {
  local setting
  for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    mkdir -p "/run/kernel/$(dirname "${setting%=*}")"
    echo "${setting#*=}" > "/run/kernel/${setting%=*}"
    mount --bind "/run/kernel/${setting%=*}" "/proc/sys/${setting%=*}"
  done
}

network() {
  ip link set lo up
  ip link add cni0 type bridge
  ip address add 10.244.0.1/24 dev cni0
  ip link set cni0 up
  ip route add 10.96.0.0/16 dev cni0
  echo 1 > /proc/sys/net/ipv4/ip_forward
}

cgroups() {
  local hierarchy file
  for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*/; do
    test -e "$hierarchy/cgroup.procs" || continue
    mkdir -p "$hierarchy/$cgroup"
    for file in cpuset.cpus cpuset.mems; do
      if test -e "$hierarchy/$file" && test -e "$hierarchy/$cgroup/$file"; then
        cat "$hierarchy/$file" > "$hierarchy/$cgroup/$file"
      fi
    done
  done
}

# start name command...
start() {
  local name=$1
  shift
  "$@" > "/run/node/$name.log" 2>&1 &
  names[$!]=$name
}

images() {
  local archive
  until ctr --address /run/containerd/containerd.sock version > /dev/null 2>&1; do sleep 0.1; done
  for archive in /run/node/images/*; do
    ctr --address /run/containerd/containerd.sock --namespace k8s.io images import "$archive" > /run/node/import.log
  done
}

declare -A names
private_places
settings_of_the_kernel
network
cgroups
start containerd containerd --config /run/node/containerd.toml
images
touch /run/node/prepared
start kube-scheduler "$programs/kube-scheduler" --kubeconfig=/run/node/scheduler.kubeconfig --leader-elect=false --secure-port=0
start kube-proxy "$programs/kube-proxy" --config=/run/node/kube-proxy.yaml
start kubelet "$programs/kubelet" --config=/run/node/kubelet.yaml --kubeconfig=/run/node/kubelet.kubeconfig \
  --hostname-override=node --node-ip=10.244.0.1 --cgroup-root="/$cgroup" --cert-dir=/var/lib/kubelet/pki
# None of them ends by itself.
wait -n -p ended "${!names[@]}" || true
echo "${names[$ended]} has ended:"
tail -n 15 "/run/node/${names[$ended]}.log"
exit 1
