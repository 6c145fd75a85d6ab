#!/usr/bin/env bash
# binaries.sh [NAME…]: builds the cluster's programs (all, or those named) from their Go modules into
# the cache, once per version. A cached program is never touched, and an interrupted build leaves
# nothing that looks done. A helm on PATH is used as it is.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/settings.sh"
wanted=" $* "

kubernetes_flags="-X k8s.io/component-base/version.gitVersion=$kubernetes_version
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=35
    -X k8s.io/component-base/version.gitTreeState=clean"
helm_flags="-X helm.sh/helm/v3/internal/version.version=$helm_version"

# build MODULE_DIRECTORY PACKAGE OUTPUT [LINKER_FLAGS]
build() {
    local module=$1 package=$2 output=$3 flags=${4:-} started=$SECONDS
    [[ $wanted == *" $(basename "$output") "* || $wanted == "  " ]] || return 0
    [[ ! -x $output ]] || return 0
    mkdir -p "$(dirname "$output")"
    command -v go >/dev/null || fail "cannot build $(basename "$output"): go is not installed or not on PATH"
    echo "binaries: building $(basename "$output")"
    (
        cd "$here/$module"
        CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "-s -w ${flags//$'\n'/ }" \
            -o "$output.$$.tmp" "$package"
    )
    mv "$output.$$.tmp" "$output"
    echo "binaries: built $(basename "$output") in $((SECONDS - started)) s"
}

# One build at a time: two would compile the same packages twice.
mkdir -p "$cache/bin"
exec 9>"$cache/bin/.lock"
flock 9

for program in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    build kubernetes "k8s.io/kubernetes/cmd/$program" "$kubernetes_bin/$program" "$kubernetes_flags"
done
build etcd go.etcd.io/etcd/server/v3 "$etcd_bin/etcd"
command -v helm >/dev/null || build helm helm.sh/helm/v3/cmd/helm "$helm_bin/helm" "$helm_flags"
build coredns . "$coredns_bin/coredns"
