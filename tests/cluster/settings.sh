# The one place for what the test cluster's scripts share: versions, addresses, paths.
# Sourced, never run. It reads LEASEHOLD_CLUSTER_DIR and XDG_CACHE_HOME, and changes nothing.
# shellcheck shell=bash disable=SC2034

kubernetes_version=v1.35.4
etcd_version=v3.6.8
helm_version=v3.22.0
coredns_version=v1.14.0

cache=${XDG_CACHE_HOME:-$HOME/.cache}/leasehold
kubernetes_bin=$cache/bin/kubernetes-$kubernetes_version
etcd_bin=$cache/bin/etcd-$etcd_version
helm_bin=$cache/bin/helm-$helm_version
# CoreDNS has a main function of ours, which may change under the same version.
coredns_source=$(cat "$(dirname "${BASH_SOURCE[0]}")"/coredns/{main.go,go.mod} | sha256sum | cut -c1-8)
coredns_bin=$cache/bin/coredns-$coredns_version-$coredns_source
cluster_path=$kubernetes_bin:$etcd_bin:$helm_bin:$coredns_bin

# Everything that a cluster writes is below this directory.
state=${LEASEHOLD_CLUSTER_DIR:-${TMPDIR:-/tmp}/leasehold-cluster}
state=$(realpath -m -- "$state")
# Several clusters may run at once, so what lives outside their namespaces (cgroups) carries an id.
cluster_id=leasehold-$(printf %s "$state" | sha256sum | cut -c1-8)

# Reserved for documentation and benchmarks (RFC 5737, RFC 2544): never somebody's own network.
node_name=node0
node_address=198.51.100.1
service_range=198.18.0.0/16
kubernetes_service=198.18.0.1
dns_service=198.18.0.10
pod_range=198.19.0.0/24
api_server=https://$node_address:6443

# Sets init_pid to the host's process id of the cluster's init process and succeeds if it runs. The
# start time is compared too, so that a process that got a dead cluster's id is never taken for it.
cluster_runs() {
    local started
    [[ -r $state/init.pid ]] || return 1
    read -r init_pid started <"$state/init.pid" || return 1
    [[ $(process_start "$init_pid") == "$started" ]]
}

# Prints when process $1 started, in clock ticks since boot; nothing if there is no such process.
process_start() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    # The command in the second field may hold spaces: count from the closing parenthesis.
    # shellcheck disable=SC2086 # splitting is the point
    set -- ${stat##*) }
    printf %s "${20}"
}

fail() {
    printf 'cluster: %s\n' "$*" >&2
    exit 1
}
