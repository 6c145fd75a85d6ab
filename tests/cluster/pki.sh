#!/usr/bin/env bash
# Makes the cluster's certificate authority, its certificates and one kubeconfig per component in
# the state directory. Everything is new at each start and gone with the cluster.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/settings.sh"

umask 077
mkdir -p "$state/pki" "$state/kubeconfig"
cd "$state/pki"

new_certificate=(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 -config /dev/null)

"${new_certificate[@]}" -subj /CN=leasehold-test-cluster -keyout ca.key -out ca.crt \
    -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null

# certificate NAME SUBJECT [EXTENSION…]
certificate() {
    local name=$1 subject=$2 extension extensions=()
    shift 2
    for extension in "$@"; do extensions+=(-addext "$extension"); done
    "${new_certificate[@]}" -CA ca.crt -CAkey ca.key -subj "$subject" -keyout "$name.key" -out "$name.crt" \
        -addext basicConstraints=CA:false -addext keyUsage=digitalSignature "${extensions[@]}" 2>/dev/null
}

# client NAME SUBJECT: a client certificate and the kubeconfig that holds it
client() {
    local name=$1
    certificate "$name" "$2" extendedKeyUsage=clientAuth
    kubeconfig "$name"
}

kubeconfig() {
    local name=$1
    cat >"$state/kubeconfig/$name" <<YAML
apiVersion: v1
kind: Config
clusters:
  - name: leasehold-test
    cluster:
      server: $api_server
      certificate-authority-data: $(base64 -w0 ca.crt)
users:
  - name: $name
    user:
      client-certificate-data: $(base64 -w0 "$name.crt")
      client-key-data: $(base64 -w0 "$name.key")
contexts:
  - name: $name
    context: { cluster: leasehold-test, user: $name }
current-context: $name
YAML
}

certificate kube-apiserver /CN=kube-apiserver extendedKeyUsage=serverAuth \
    "subjectAltName=IP:$node_address,IP:$kubernetes_service,IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
certificate node "/O=system:nodes/CN=system:node:$node_name" extendedKeyUsage=clientAuth,serverAuth \
    "subjectAltName=IP:$node_address,DNS:$node_name"
kubeconfig node
client admin /O=system:masters/CN=leasehold-test-admin
client kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
client kube-controller-manager /CN=system:kube-controller-manager
client kube-scheduler /CN=system:kube-scheduler
client kube-proxy /CN=system:kube-proxy
client coredns /CN=system:coredns
# Service account tokens are signed with RSA, as most clusters do.
openssl genrsa -out service-accounts.key 2048 2>/dev/null
openssl rsa -in service-accounts.key -pubout -out service-accounts.pub 2>/dev/null
