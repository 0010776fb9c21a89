#!/usr/bin/env bash
# Installs the Debian packages that are named, where they are not installed yet. The tests start processes of their own; a
# service that a package brings is left as the package leaves it.
# Usage: e2e/packages.sh PACKAGE...
set -euo pipefail

is_installed() {
  dpkg-query --show --showformat '${Status}' "$1" 2> /dev/null | grep -q 'ok installed'
}

missing=()
for package in "$@"; do
  is_installed "$package" || missing+=("$package")
done
test "${#missing[@]}" -gt 0 || exit 0
if test "$(id --user)" -ne 0; then
  echo "These packages are missing: ${missing[*]}. As root: apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "installing ${missing[*]}"
apt-get update --quiet
DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends "${missing[@]}"
