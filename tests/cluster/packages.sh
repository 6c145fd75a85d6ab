#!/usr/bin/env bash
# Installs the Debian packages that the test cluster and its images need, if any is missing.
# Needs root only then. The machine's own apt sources are used as they are.
set -euo pipefail

packages=(
    busybox-static conntrack containerd containernetworking-plugins debian-archive-keyring iproute2
    jq mmdebstrap nftables openssl procps runc util-linux
)

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $status == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

if ((EUID != 0)); then
    echo "packages: these are missing, install them as root: ${missing[*]}" >&2
    exit 1
fi
echo "packages: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# No service may start by itself: the cluster runs its own containerd.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update --quiet=2
apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}"
