# The test cluster and its images. Included from the root Makefile; all of it needs root.
CLUSTER := tests/cluster

.PHONY: cluster cluster-down binaries images

binaries: ## Build Kubernetes, etcd, CoreDNS and Helm into the cache, once per version
	$(CLUSTER)/packages.sh
	$(CLUSTER)/binaries.sh

cluster: ## Start a one-node Kubernetes cluster in namespaces of its own and say how to use it
	$(CLUSTER)/up

cluster-down: ## End the cluster; fails if a process, mount, cgroup or interface of it remains
	$(CLUSTER)/down

images: programs ## Build the container images from the programs of this build
	tests/images/build $(or $(CARGO_TARGET_DIR),target)/debug
