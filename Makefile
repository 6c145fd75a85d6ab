# Leasehold's only entry point: `make help`. CI calls what people call (.ci/run).
# Everything heavy is built once and kept, by version, in $XDG_CACHE_HOME/leasehold (default ~/.cache/leasehold).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/leasehold
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(CACHE)/bin/cargo-deny-v$(CARGO_DENY_VERSION)/cargo-deny
# A new set of Python tools is a new environment; the old one stays for older checkouts.
VENV := $(CACHE)/venv-$(shell sha256sum .ci/requirements.txt | cut -c1-12)
PYTHON := $(VENV)/bin/python
API_REQUIREMENTS := secret-broker/tests/requirements.txt
API_VENV := $(CACHE)/venv-api-$(shell sha256sum $(API_REQUIREMENTS) | cut -c1-12)
HUB_REQUIREMENTS := jupyterhub-config/requirements.txt jupyterhub-config/requirements-dev.txt
HUB_VENV := $(CACHE)/venv-hub-$(shell cat $(HUB_REQUIREMENTS) | sha256sum | cut -c1-12)
CLIENT_REQUIREMENTS := secret-broker/python/requirements.txt secret-broker/python/requirements-dev.txt
CLIENT_VENV := $(CACHE)/venv-client-$(shell cat $(CLIENT_REQUIREMENTS) | sha256sum | cut -c1-12)
HUB_PROXY := $(CACHE)/hub-proxy-$(shell sha256sum jupyterhub-config/proxy/package-lock.json | cut -c1-12)
KEYCLOAK_VERSION := 26.7.3
KEYCLOAK_SHA256 := 27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f
KEYCLOAK := $(CACHE)/keycloak-$(KEYCLOAK_VERSION)
# Where the tests and the demo find the hub, and the tests the Keycloak, that they start.
export LEASEHOLD_KEYCLOAK := $(KEYCLOAK)
export LEASEHOLD_HUB_VENV := $(HUB_VENV)
export LEASEHOLD_HUB_PROXY := $(HUB_PROXY)
export PATH := $(PATH):$(subst $() ,:,$(wildcard $(CACHE)/bin/helm-*))

include tests/cluster/cluster.mk

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## What everything needs

.PHONY: setup
setup: binaries $(PYTHON) $(CLIENT_VENV)/ready hub postgresql mariadb softhsm keycloak $(CARGO_DENY) ## Install and build what the other targets need (Debian packages, programs, Python tools)

$(PYTHON):
	@if ! python3 -c 'import ensurepip' 2>/dev/null; then apt-get update --quiet=2 && apt-get install --yes --quiet=2 python3-venv; fi
	rm -rf $(VENV)
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement .ci/requirements.txt || { rm -rf $(VENV); exit 1; }

# No cluster of Debian's own and no service: the tests make theirs in temporary directories.
.PHONY: postgresql
postgresql: ## Install PostgreSQL for the ledger's tests, if it is missing (root)
	@if compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; then exit 0; fi; \
	if [[ $$EUID != 0 ]]; then echo "postgresql: install the Debian package postgresql as root; the tests that need it are skipped without"; exit 0; fi; \
	apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends postgresql-common && \
	mkdir -p /etc/postgresql-common/createcluster.d && \
	echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/leasehold-tests.conf && \
	apt-get install --yes --quiet=2 --no-install-recommends postgresql

# The server alone, without Debian's service.
.PHONY: mariadb
mariadb: ## Install MariaDB for the key store's tests, if it is missing (root)
	@if [[ -x /usr/sbin/mariadbd && -x /usr/bin/my_print_defaults ]]; then exit 0; fi; \
	if [[ $$EUID != 0 ]]; then echo "mariadb: install the Debian packages mariadb-server-core and mariadb-client-core as root; the tests that need it are skipped without"; exit 0; fi; \
	apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends mariadb-server-core mariadb-client-core

$(API_VENV)/ready: $(PYTHON)
	rm -rf $(API_VENV)
	python3 -m venv $(API_VENV)
	$(API_VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $(API_REQUIREMENTS)
	touch $@

# Its distribution is a package of Maven Central and runs on Debian's Java. It is copied before each start, never started in place.
.PHONY: keycloak
keycloak: ## Install Keycloak for the tests of people's logins, if it is missing (root where Maven or Java is missing)
	@if [[ -e $(KEYCLOAK)/ready ]]; then exit 0; fi; \
	if ! command -v mvn >/dev/null || ! command -v java >/dev/null; then \
		if [[ $$EUID != 0 ]]; then echo "keycloak: install the Debian packages maven and openjdk-17-jre-headless as root; the tests that need it are skipped without"; exit 0; fi; \
		apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends maven openjdk-17-jre-headless; \
	fi; \
	mkdir -p $(CACHE); new=$$(mktemp --directory $(CACHE)/keycloak.XXXXXX); trap 'rm -rf "$$new"' EXIT; \
	mvn --batch-mode --quiet org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -DoutputDirectory="$$new" \
		-Dartifact=org.keycloak:keycloak-quarkus-dist:$(KEYCLOAK_VERSION):zip \
		|| { echo "SKIPPED: keycloak: it could not be fetched from Maven Central; the tests that need it are skipped"; exit 0; }; \
	echo "$(KEYCLOAK_SHA256)  $$new/keycloak-quarkus-dist-$(KEYCLOAK_VERSION).zip" | sha256sum --check --quiet; \
	python3 -m zipfile --extract "$$new/keycloak-quarkus-dist-$(KEYCLOAK_VERSION).zip" "$$new"; \
	touch "$$new/keycloak-$(KEYCLOAK_VERSION)/ready"; \
	rm -rf $(KEYCLOAK); mv "$$new/keycloak-$(KEYCLOAK_VERSION)" $(KEYCLOAK)

.PHONY: softhsm
softhsm: ## Install SoftHSM 2 for the tests of hardware modules, if it is missing (root)
	@if command -v softhsm2-util >/dev/null; then exit 0; fi; \
	if [[ $$EUID != 0 ]]; then echo "softhsm: install the Debian package softhsm2 as root; the tests that need it are skipped without"; exit 0; fi; \
	apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends softhsm2

# The hub's own packages, at the versions that its configuration is written for.
$(HUB_VENV)/ready: $(PYTHON)
	rm -rf $(HUB_VENV)
	python3 -m venv $(HUB_VENV)
	$(HUB_VENV)/bin/pip install --quiet --disable-pip-version-check $(addprefix --requirement ,$(HUB_REQUIREMENTS))
	touch $@

# The Python client's, at the versions that its tests run with.
$(CLIENT_VENV)/ready: $(PYTHON)
	rm -rf $(CLIENT_VENV)
	python3 -m venv $(CLIENT_VENV)
	$(CLIENT_VENV)/bin/pip install --quiet --disable-pip-version-check $(addprefix --requirement ,$(CLIENT_REQUIREMENTS))
	touch $@

# Its dependencies are not ours: a target directory of its own, removed afterwards.
$(CARGO_DENY):
	CARGO_TARGET_DIR=$(CACHE)/build-cargo-deny cargo install cargo-deny --version $(CARGO_DENY_VERSION) --locked --quiet --no-track --root $(CACHE)/build-cargo-deny
	mkdir -p $(@D)
	mv $(CACHE)/build-cargo-deny/bin/cargo-deny $@
	rm -rf $(CACHE)/build-cargo-deny

$(HUB_PROXY)/ready:
	rm -rf $(HUB_PROXY)
	mkdir -p $(HUB_PROXY)
	cp jupyterhub-config/proxy/package.json jupyterhub-config/proxy/package-lock.json $(HUB_PROXY)
	npm ci --prefix $(HUB_PROXY) --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

.PHONY: hub
hub: $(HUB_VENV)/ready $(HUB_PROXY)/ready ## Install JupyterHub and its proxy, for the demo and the cluster tests

# The stand-in's executor runs inside users' images, whatever C library these have: it is linked statically.
.PHONY: programs
programs: ## Build every program
	cargo build --workspace --bins --locked
	cargo rustc --package leasehold-argo-standin --bin argo-standin-exec --locked -- -C target-feature=+crt-static

## Seeing it

.PHONY: demo
demo: binaries hub ## The whole way of a dataset on a real cluster, told step by step (root); KEEP=1 leaves the cluster running
	$(MAKE) --no-print-directory programs
	cargo run --quiet --package leasehold-tests --bin leasehold-demo --locked

## Checks

.PHONY: fmt
fmt: $(PYTHON) ## Format Rust and Python
	cargo fmt --all
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix-only .

.PHONY: lint
lint: lint-rust deny lint-python lint-generated ## All static checks

.PHONY: lint-rust
lint-rust: ## rustfmt and clippy, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings

.PHONY: deny
deny: $(CARGO_DENY) ## Licences, sources and directions of dependencies; advisories where their database can be reached
	cargo fetch --locked --quiet
	$(CARGO_DENY) --offline check --allow unused-wrapper licenses bans sources
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	if timeout 120 $(CARGO_DENY) check advisories >"$$log" 2>&1; then cat "$$log"; \
	elif grep -q 'failed to fetch advisory database' "$$log"; then echo "SKIPPED: advisories: the RustSec database cannot be reached"; \
	else cat "$$log"; exit 1; fi

.PHONY: lint-python
lint-python: $(PYTHON) $(HUB_VENV)/ready $(CLIENT_VENV)/ready ## ruff and mypy
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy .ci helm
	cd jupyterhub-config && $(HUB_VENV)/bin/mypy .
	cd secret-broker/python && $(CLIENT_VENV)/bin/mypy .

.PHONY: lint-generated
lint-generated: $(PYTHON) ## Generated files say what their sources say, and documents what is there
	$(PYTHON) .ci/promises.py
	$(PYTHON) helm/values_table.py | diff --unified docs/values.md - || { echo "docs/values.md is out of date: make values-table"; exit 1; }
	cargo run --quiet --package leasehold-conformance --example reference --locked | diff --unified docs/contract.md - || { echo "docs/contract.md is out of date: make contract-reference"; exit 1; }

## Tests

.PHONY: test
test: ## Everything that a change may break; ends with a summary
	@python3 .ci/tiers.py setup lint unit chart client-tests hub-tests cluster-tests

.PHONY: unit
unit: $(API_VENV)/ready ## Tests that need no cluster
	cargo test --workspace --exclude leasehold-tests --locked --no-fail-fast
	cargo test --package leasehold-tests --lib --locked --no-fail-fast
	LEASEHOLD_SCHEMATHESIS=$(API_VENV)/bin/schemathesis cargo test --package leasehold-secret-broker --test broker --locked -- --ignored openapi::

.PHONY: chart
chart: binaries $(PYTHON) ## The chart: what it renders, and on a real API server its policies, upgrade and removal
	helm lint helm/leasehold --quiet --set organisation=UiSMSP
	$(PYTHON) -m pytest --quiet helm/tests

.PHONY: client-tests
client-tests: $(CLIENT_VENV)/ready ## Tests of the Python client, against a real broker too
	cargo build --package leasehold-secret-broker --bin leasehold-secret-broker --locked
	cd secret-broker/python && LEASEHOLD_BROKER_BIN=$(abspath $(or $(CARGO_TARGET_DIR),target))/debug/leasehold-secret-broker \
		$(CLIENT_VENV)/bin/python -m pytest --quiet

.PHONY: hub-tests
hub-tests: $(HUB_VENV)/ready ## Tests of jupyterhub-config
	cd jupyterhub-config && $(HUB_VENV)/bin/python -m pytest --quiet

.PHONY: cluster-tests
cluster-tests: ## The whole way of a dataset on a real cluster (root); with LEASEHOLD_TEST_KUBECONFIG on an existing one
	@if [[ $$EUID != 0 && -z $${LEASEHOLD_TEST_KUBECONFIG:-} ]]; then echo "SKIPPED: cluster-tests: a cluster of our own needs root"; exit 0; fi; \
	if [[ -z $${LEASEHOLD_ARGO_BIN:-} ]]; then echo "SKIPPED: real Argo Workflows: LEASEHOLD_ARGO_BIN is not set; the stand-in runs instead"; fi; \
	$(MAKE) --no-print-directory binaries hub; \
	$(MAKE) --no-print-directory programs; \
	cargo test --package leasehold-tests --tests --locked --no-fail-fast -- --test-threads=1

## Measuring, and long runs

.PHONY: bench
bench: ## CPU per review, throughput, p50 and p99 of the release webhook beside a bare TLS echo, as a table
	cargo build --package leasehold-webhook --release --locked --examples
	$(or $(CARGO_TARGET_DIR),target)/release/examples/load

.PHONY: bench-ledger
bench-ledger: ## The embedded ledger beside bare SQLite and sha256sum, as tables; LEASES and DATASETS size the large ledger
	cargo build --package leasehold-secret-broker --release --locked --example ledger_bench
	$(or $(CARGO_TARGET_DIR),target)/release/examples/ledger_bench $(or $(LEASES),100000) $(or $(DATASETS),10000)

.PHONY: bench-postgres
bench-postgres: ## The ledger in PostgreSQL beside bare inserts of the same bytes, as a table; starts a server of its own
	cargo build --package leasehold-secret-broker --release --locked --example postgres_bench
	$(or $(CARGO_TARGET_DIR),target)/release/examples/postgres_bench

.PHONY: bench-start
bench-start: ## How long a broker takes to open a ledger of BLOCKS blocks, as a table
	cargo build --package leasehold-secret-broker --release --locked --example ledger_start
	$(or $(CARGO_TARGET_DIR),target)/release/examples/ledger_start $(or $(BLOCKS),100000)

.PHONY: bench-fabric
bench-fabric: ## A read through the shim beside the bare round trip; with LEASEHOLD_FABRIC_BIN leases beside transactions that do nothing
	cargo bench --package fabric-shim --locked --bench read
	cargo bench --package leasehold-chaincode-service --locked --bench fabric

# cargo-fuzz's layout and flags without its tool, on the stable compiler: libFuzzer without a sanitizer, which this code without `unsafe`
# would gain nothing by.
FUZZ_TARGETS := messages arguments tokens envelopes queries
FUZZ_SECONDS ?= 60
FUZZ_CORPUS := $(CACHE)/fuzz
FUZZ_PLATFORM = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_PROGRAMS := $(abspath $(or $(CARGO_TARGET_DIR),target))/fuzz

.PHONY: fuzz
fuzz: ## Fuzz what the chaincode and the broker read, FUZZ_SECONDS each target, from the corpus of the last time
	cd fuzz && CARGO_TARGET_DIR=$(FUZZ_PROGRAMS) RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
		-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
		-Cllvm-args=-sanitizer-coverage-trace-compares" cargo build --release --locked --target $(FUZZ_PLATFORM)
	python3 fuzz/seeds.py chaincode/shim/tests/transcripts $(FUZZ_CORPUS)/messages
	mkdir -p $(addprefix $(FUZZ_CORPUS)/,$(FUZZ_TARGETS)) fuzz/artifacts
	for target in $(FUZZ_TARGETS); do \
		$(FUZZ_PROGRAMS)/$(FUZZ_PLATFORM)/release/$$target -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 \
			-max_len=16384 -print_final_stats=1 -verbosity=0 -artifact_prefix=fuzz/artifacts/$$target- $(FUZZ_CORPUS)/$$target; \
	done

.PHONY: soak
soak: binaries hub ## Long crash and random runs (root; about an hour)
	LEASEHOLD_SOAK_CASES=10000 cargo test --release --package leasehold-model --test memory --locked -- --nocapture
	LEASEHOLD_SOAK_CASES=1000 cargo test --package leasehold-secret-broker --lib --locked bytes_as_memory -- --nocapture
	LEASEHOLD_SOAK_KILLS=300 cargo test --package leasehold-secret-broker --lib --locked ledger::tests::crash
	LEASEHOLD_SOAK_KILLS=200 cargo test --package leasehold-secret-broker --lib --locked ledger::tests::postgres::crash
	LEASEHOLD_SOAK_KILLS=200 cargo test --package leasehold-secret-broker --test replicas --locked crash::
	LEASEHOLD_SOAK_FLIPS=2500 cargo test --package leasehold-secret-broker --lib --locked ledger::tests::flips
	PROPTEST_CASES=20000 cargo test --package leasehold-webhook --package leasehold-spawner-hook --locked
	$(MAKE) --no-print-directory fuzz
	$(MAKE) --no-print-directory programs
	LEASEHOLD_SOAK_ROUNDS=5 cargo test --package leasehold-tests --test e2e --locked -- --test-threads=1 crashes::
	LEASEHOLD_SOAK_ROUNDS=5 cargo test --package leasehold-chaincode-service --test real --locked -- servers_are_killed

## Generated files

.PHONY: values-table
values-table: $(PYTHON) ## docs/values.md from the comments of values.yaml
	$(PYTHON) helm/values_table.py >docs/values.md

.PHONY: openapi
openapi: ## docs/openapi.json from the broker's handlers
	cargo run --quiet --package leasehold-secret-broker --example openapi --locked >docs/openapi.json

.PHONY: contract-reference
contract-reference: ## docs/contract.md from the contract's types and cases
	cargo run --quiet --package leasehold-conformance --example reference --locked >docs/contract.md

.PHONY: docs
docs: values-table ## Generated documents: the picture and the table of values
	@command -v dot >/dev/null || { apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends graphviz fonts-dejavu-core; }
	dot -Tsvg docs/architecture.dot -o docs/architecture.svg

.PHONY: clean
clean: ## Remove what was built in the checkout; the cache stays
	cargo clean
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf .mypy_cache .pytest_cache .ruff_cache
