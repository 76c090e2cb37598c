# Stowplan's commands. `make demo` and `make test` set up all they need on a fresh machine.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export STOWPLAN_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/stowplan
VENV := .venv
PY := $(VENV)/bin/python
RESULTS ?= test-results

-include cluster/cluster.mk
-include trainer-image/trainer.mk

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

venv: $(VENV)/.synced ## the development environment, from the hashed requirement files

$(VENV)/.synced: requirements/dev.txt pyproject.toml hack/python.sh hack/uv.sh
	@uv=$$(hack/uv.sh); python=$$(PATH="$$(dirname $$uv):$$PATH" hack/python.sh); \
	[ -x $(PY) ] && $(PY) -c 'import sys; raise SystemExit(sys.version_info < (3, 12))' || $$uv venv --quiet --clear --python "$$python" $(VENV); \
	$$uv pip sync --quiet --python $(PY) --require-hashes requirements/dev.txt; \
	$$uv pip install --quiet --python $(PY) --no-build-isolation --no-deps --editable .
	@touch $@

lock: ## compile the hashed requirement files anew
	@uv=$$(hack/uv.sh); cd requirements; for name in dev operator; do \
	  $$uv pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-header \
	    $$([ $$name = dev ] || echo -c dev.txt) $$name.in -o $$name.txt; done

helm:
	@cluster/tools.sh helm

lint: venv ## ruff, mypy --strict, import layers
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

check: lint helm ## the inner loop: lint, types, import layers, unit and scenario tests
	@mkdir -p $(RESULTS)
	PATH="$(abspath $(VENV))/bin:$$PATH" $(PY) -m pytest -q -n 2 -m "not slow and not apiserver and not policies and not faults and not kind" --junitxml=$(RESULTS)/check.xml tests/unit tests/scenario

test-slow: venv cluster-tools ## the unit tests that take more than a few seconds: 22,000 simulated hours without starvation, worker processes, Go
	@mkdir -p $(RESULTS)
	$(PY) -m pytest -q -n 2 -m slow --junitxml=$(RESULTS)/slow.xml tests/unit/allocator tests/unit/cluster tests/unit/operator

demo: venv cluster images ## a kind cluster, the chart, and examples/digits.yaml to its end
	hack/demo.sh

test: check test-slow lint-trainer test-trainer test-apiserver test-policies test-faults-sample test-kind ## everything: make check, then a real API server, real pods and real torchrun

test-apiserver: venv cluster-tools ## CRD, admission and chart against kube-apiserver and etcd as processes
	@mkdir -p $(RESULTS)
	$(PY) -m pytest -q --junitxml=$(RESULTS)/apiserver.xml tests/apiserver

test-policies: venv cluster-tools ## the cases that the field publishes, as stories, against a real API server with kwok nodes
	@mkdir -p $(RESULTS)
	@cluster/tools.sh kwok
	$(PY) -m pytest -q --junitxml=$(RESULTS)/policies.xml tests/policies

FAULTS := STOWPLAN_RESULTS=$(abspath $(RESULTS)) $(PY) -m pytest -q -s --timeout 7200 --junitxml=$(RESULTS)/faults.xml tests/faults
test-faults: venv cluster-tools ## the operator killed, cut off, frozen and lied to at every write, against a real API server (about two hours)
	@mkdir -p $(RESULTS); rm -f $(RESULTS)/faults.jsonl
	@cluster/tools.sh kwok
	STOWPLAN_FAULTS=all $(FAULTS)
	PYTHONPATH=tests $(PY) -m faults.records $(RESULTS)/faults.jsonl

test-faults-sample: venv cluster-tools ## a sample of make test-faults, the same each time
	@mkdir -p $(RESULTS); rm -f $(RESULTS)/faults.jsonl
	@cluster/tools.sh kwok
	$(FAULTS)

test-kind: venv cluster images ## real pods and real torchrun on the kind cluster
	@mkdir -p $(RESULTS)
	STOWPLAN_RESULTS=$(abspath $(RESULTS)) $(PY) -m pytest -q -s --timeout 600 --junitxml=$(RESULTS)/kind.xml tests/kind

BENCH := $(PY) -m stowplan_allocator.bench
bench: venv ## the figures of docs/benchmarks.md on planning speed, as JSON files and tables
	@mkdir -p $(RESULTS)/bench
	$(BENCH) plan --nodes 1000 --jobs 900 --running 0 --shapes 1 --json $(RESULTS)/bench/gangs.json
	$(BENCH) plan --nodes 5000 --jobs 1000 --running 3000 --shapes 60 --json $(RESULTS)/bench/steady.json
	$(BENCH) plan --nodes 20000 --jobs 10000 --running 0 --shapes 60 --workloads 1 --json $(RESULTS)/bench/large.json
	for mix in distinct odd racks cpu; do $(BENCH) plan --mix $$mix --workloads 1 --json $(RESULTS)/bench/$$mix.json; done
	for nodes in 200 1000; do for demand in 0.95 1.3; do \
	  $(BENCH) race --nodes $$nodes --demand $$demand --json $(RESULTS)/bench/race-$$nodes-$$demand.json; done; done

clean: ## remove what the repository's commands made inside it
	rm -rf $(VENV) .venv-trainer $(RESULTS) .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help helm venv lock lint check bench demo test test-slow test-apiserver test-policies test-faults test-faults-sample test-kind clean
