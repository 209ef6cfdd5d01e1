# Every target does its own set-up. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST ?= $(BIN)/pytest
TEST_PROCESSES ?= 2
# Most tests wait for timers of the protocol, and some files run several LANs at once.

.PHONY: help demo docs docs-site manifests test check lint types layers unit netns cluster packaging soak fuzz mutants bench cluster-tools package-tools \
        image lock system-packages install format clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## Three nodes, a client and a VIP on this machine: see it move (needs root or user namespaces)
	@$(BIN)/carp-sidecar demo

test: install system-packages check ## Everything: lint, types, layers, then all tests, also with real peers and a real API server
	@$(MAKE) --no-print-directory cluster-tools || [ "$${CI:-}" != true ] # at home, tests without it skip and say so
	@$(MAKE) --no-print-directory package-tools || [ "$${CI:-}" != true ] # as above
	@$(PYTEST) -n $(TEST_PROCESSES) --dist loadfile --cov=sidecar.protocol --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

check: lint types layers ## Lint, types and layer contracts, without the tests

lint: $(STAMP) ## ruff: rules and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP) ## mypy --strict
	@$(BIN)/mypy

layers: $(STAMP) ## Who may import whom (import-linter, contracts in pyproject.toml)
	@$(BIN)/lint-imports --no-logo

unit: $(STAMP) ## The tests that need neither root nor tools
	@$(PYTEST) -m "not netns and not cluster and not packaging"

netns: $(STAMP) ## Real kernel, real ucarp, in network namespaces (needs root)
	@$(PYTEST) -m netns

cluster: $(STAMP) cluster-tools ## Real kube-apiserver (built once, see cluster-tools)
	@$(PYTEST) -m cluster

packaging: $(STAMP) package-tools ## The chart, the manifests and the image, by real helm, kubectl and buildah
	@$(PYTEST) -m packaging

cluster-tools: ## Build kube-apiserver and kube-controller-manager once into a cache folder
	@PYTHON="$(PYTHON)" tools/kubernetes/build.sh

package-tools: $(STAMP) ## Fetch helm and kubectl, and make the image's base, once into a cache folder
	@$(BIN)/python -m tools.helm >/dev/null
	@[ "$$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null || $(BIN)/python -m tools.image prepare

image: $(STAMP) ## Build the image without a registry, as the tests do (needs root, buildah and debootstrap)
	@$(BIN)/python -m tools.image build

lock: $(STAMP) ## Pin what the image installs: requirements.txt from pyproject.toml, with hashes
	@$(BIN)/pip install --quiet --disable-pip-version-check uv
	@{ echo '# What the image installs: every package with its hashes. Made from pyproject.toml by `make lock`.'; \
	    $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml; \
	} >requirements.new && mv requirements.new requirements.txt

system-packages: ## Install the Debian packages that the tests use (root only; else say what is missing)
	@tools/system-packages.sh

soak: $(STAMP) ## Random stories of faults on the simulated LAN (SOAK_MINUTES=3, SOAK_SEED=...); the smallest one that fails
	@$(BIN)/python -m tests.soak

fuzz: $(STAMP) ## Coverage-guided fuzzing of all that reads bytes of others (FUZZ_SECONDS=60 for each target)
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	@$(BIN)/python -m tests.fuzz.run

bench: $(STAMP) ## What the engine costs, measured and written to docs/benchmarks/engine.md (needs root, 10 minutes)
	@$(BIN)/python -m bench

.PHONY: bench-failover bench-failover-soak
bench-failover: $(STAMP) ## Failover beside ucarp and keepalived, into docs/benchmarks/failover.md (root, half an hour, FAILOVER="--runs 10")
	@$(BIN)/python -m bench.failover run $(FAILOVER)

bench-failover-soak: $(STAMP) ## Before it: the fastest settings that hold a stable master (root, idle machine, SOAK_SECONDS=600)
	@$(BIN)/python -m bench.failover soak --seconds $(or $(SOAK_SECONDS),600)

.PHONY: bench-mirror
bench-mirror: $(STAMP) cluster-tools ## What the mirror costs an API server, 200 agents, into docs/benchmarks/mirror.md (8 minutes, MIRROR="--agents 50")
	@$(BIN)/python -m bench.mirror $(MIRROR)

.PHONY: bench-restart
bench-restart: $(STAMP) ## How long a restart takes that keeps the VIPs, into docs/benchmarks/restart.md (needs root, a minute)
	@$(BIN)/python -m bench.restart

mutants: $(STAMP) ## Bugs planted in the protocol, then all small changes to it: each must make a test fail (hours)
	@$(BIN)/python -m tests.mutation.plant
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[mutants]'
	@$(BIN)/python -m tests.mutation.run

install: $(STAMP) ## The virtual environment in .venv, with the development tools

$(STAMP): pyproject.toml tools/venv.sh
	@tools/venv.sh "$(PYTHON)" "$(VENV)"
	@touch $@

docs: $(STAMP) ## Write the pages that are made from the code
	@$(BIN)/python -m sidecar.config.reference > docs/settings.md
	@$(BIN)/python -m sidecar.agent.metrics > docs/metrics.md
	@$(BIN)/python -m tools.dashboard
	@$(BIN)/python -m sidecar.usage > docs/commands.md
	@$(BIN)/python -m tools.diagram
	@$(BIN)/python -m tools.values_schema

docs-site: $(STAMP) ## The documentation as a site, in site/; a dead link or anchor ends it
	@$(BIN)/mkdocs build --strict

manifests: $(STAMP) ## Write what is the chart's in manifests/ (by helm)
	@$(BIN)/python -m tools.manifests

format: $(STAMP) ## Rewrite the code in the project's format
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean: ## Remove the virtual environment and all caches in this folder
	@rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage build *.egg-info
