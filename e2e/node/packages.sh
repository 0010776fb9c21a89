#!/usr/bin/env bash
# Installs what a node is made of beside the programs of Kubernetes, where it is not installed yet. The tests start
# processes of their own; a service that a package brings is left as the package leaves it.
set -euo pipefail
packages=(buildah conntrack containerd containernetworking-plugins iproute2 iptables nftables runc)

is_installed() {
  dpkg-query --show --showformat '${Status}' "$1" 2> /dev/null | grep -q 'ok installed'
}

missing=()
for package in "${packages[@]}"; do
  is_installed "$package" || missing+=("$package")
done
test "${#missing[@]}" -gt 0 || exit 0
if test "$(id --user)" -ne 0; then
  echo "A node needs root, and these packages: ${missing[*]}" >&2
  exit 1
fi
echo "installing ${missing[*]}"
apt-get update --quiet
DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends "${missing[@]}"
