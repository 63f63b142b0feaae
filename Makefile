# Everything that can be done with the project. `make help` lists it; a fresh clone needs Python 3.11, make and the
# network for packages.

SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help dev demo test check format proto sim sim-planted ci-faults faults bench e2e clean

help: ## List what can be done
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Compat mode makes a path entry of the project instead of an import hook, which costs each process 10 ms at its start.
# The stamp is younger than what decides the installation's content, so nothing is installed twice.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing: install Python 3.11 (Debian: python3.11)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: Python has no venv: install the Debian package python3.11-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--config-settings editable_mode=compat --editable '.[dev]'
	@touch $@

dev: $(STAMP) ## Make .venv with everything in it

demo: $(STAMP) ## Start a cluster of five nodes on this machine and show what it does (KEEP=1 leaves it running)
	@$(BIN)/python -m scripts.demo $(if $(filter-out 0,$(KEEP)),--keep) $(if $(DEMO_PORT),--port $(DEMO_PORT))

test: $(STAMP) ## Run all tests (what needs root or a missing program is skipped, saying so)
	@$(BIN)/python -m pytest -n 2 --dist loadfile -q

e2e: $(STAMP) ## Run only the tests with real processes
	@$(BIN)/python -m pytest -q -m e2e

check: $(STAMP) ## Format, lint, types, layering, generated code
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet --no-cache .  # the order of imports depends on other files than its own
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_tidy.py
	@$(BIN)/python scripts/gen_proto.py --check

format: $(STAMP) ## Put the code into shape
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

proto: $(STAMP) ## Generate swarmpy/api/v1 and worker/containerd/api from proto/
	@$(BIN)/python scripts/gen_proto.py

sim: $(STAMP) ## Simulate Raft clusters from fresh seeds (SEED=7 replays one, MINUTES=60), then the other simulations
	@$(BIN)/python -m scripts.sim --jobs 2 $(if $(SEED),--seed $(SEED) --trace 100) $(if $(MINUTES),--minutes $(MINUTES))
	@$(if $(SEED),:,HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -q tests/sim/test_orchestrator.py tests/properties)

sim-planted: $(STAMP) ## Plant bugs in Raft one by one and print which law finds each, and how soon
	@$(BIN)/python -m scripts.sim --planted --jobs 2

ci-faults: $(STAMP) ## Ten rounds of faults on clusters of real managers, their histories checked
	@$(BIN)/python -m scripts.faults --rounds 10 $(if $(SEED),--seed $(SEED))

faults: $(STAMP) ## The same for MINUTES=60 (SEED=7 begins there)
	@$(BIN)/python -m scripts.faults --minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED))

bench: $(STAMP) ## Run every benchmark in scripts/bench (names the Debian packages of the peers that are missing)
	@$(BIN)/python -m scripts.bench

clean: ## Remove what was made here, but not a running demo's state
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
