# Everything a person types. Needs Python 3.11 or newer, make and git; no Docker, no Java.
PYTHON ?= python3
VENV_PYTHON := .venv/bin/python
BIN := .venv/bin
PURE := tests/unit tests/contract tests/simulation
REAL := tests/integration tests/e2e tests/chaos
TESTED := $(PURE) $(REAL)
CHECKED := deploy services tests tools benchmarks examples
.DEFAULT_GOAL := help
.PHONY: help demo docs events test test-extra chaos check deploy-check bench up down status generate lock clean ready ready-dev

help: ## what there is to do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
	  while IFS="$$(printf '\t')" read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

demo: ready ## a business day on the real parts; KEEP=1 leaves it running, DOCKER=1 uses Docker, SEED=n, RUNS=n
	@$(VENV_PYTHON) -m deploy.local.demo $(if $(KEEP),--keep) $(if $(DOCKER),--docker) \
	  $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS))

test: ready-dev ## all tests that need Python alone, against the real broker and registry
	@sh tests/side_by_side.sh $(VENV_PYTHON) "$(wildcard $(PURE))" "$(wildcard $(REAL))" $(ARGS)

test-extra: ready-dev ## the tests that need more than Python
	@$(VENV_PYTHON) -m pytest -m extra $(ARGS) $(wildcard $(TESTED))

chaos: ready-dev ## a storm of faults over real processes and its judge, then 10,000 simulated schedules; SEED=n, EVENTS=n, MINUTES=n, SCHEDULES=n, JSON=file
	@$(VENV_PYTHON) -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(EVENTS),--events $(EVENTS)) \
	  $(if $(MINUTES),--minutes $(MINUTES)) $(if $(JSON),--json $(JSON))
	@$(VENV_PYTHON) -m tests.simulation --schedules $(or $(SCHEDULES),10000) $(if $(SEED),--seed $(SEED))

check: ready-dev ## format, lint, types, import rules, schemas and unit tests, in under a minute
	@$(BIN)/ruff format --check --quiet $(wildcard $(CHECKED))
	@$(BIN)/ruff check --quiet $(wildcard $(CHECKED))
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/billbus schemas check
	@$(VENV_PYTHON) -m pytest -q -m "not extra" tests/unit

deploy-check: ready-dev ## deploy/k8s before a real API server, and planted errors (needs Go); ROLLOUT=1 on fake nodes too
	@$(VENV_PYTHON) -m deploy.k8s.check $(if $(ROLLOUT),--rollout)

bench: ready-dev ## benchmarks beside the peers; CASES="20ms 2ms" and RUNS=n choose, ONLY="ours asyncio_loop"
	@$(VENV_PYTHON) -m benchmarks $(CASES) $(if $(RUNS),--runs $(RUNS)) $(if $(ONLY),--only $(ONLY))

up: ready ## Kafka and the registry alone
	@$(VENV_PYTHON) -m deploy.local up

down: ready ## end everything that `make up` or `make demo KEEP=1` left running
	@$(VENV_PYTHON) -m deploy.local down

status: ready ## what of it is running
	@$(VENV_PYTHON) -m deploy.local status

generate: ready-dev ## write again what is derived from schemas/ and the settings
	@$(VENV_PYTHON) -m tools.generate_events # first and alone: what makes the rest is built of the types
	@$(VENV_PYTHON) -m tools.generate

events: ready-dev ## the package billbus-events, for other teams on Python, into dist/
	@$(VENV_PYTHON) tools/build_events.py

docs: ready-dev ## the topics' catalog and these docs as a site, into build/site; links checked
	@$(VENV_PYTHON) -m tools.site

LOCK := pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

lock: ## choose the packages' versions anew (needs uv)
	@command -v uv >/dev/null || { echo 'There is no uv; install it (`pip install uv`).' >&2; exit 1; }
	@uv $(LOCK) --group local --output-file requirements.lock pyproject.toml
	@uv $(LOCK) --group build --constraint requirements.lock --output-file deploy/docker/requirements.lock pyproject.toml
	@uv $(LOCK) --group local --group dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	@cd examples/consumers/python && uv $(LOCK) --constraint ../../../requirements.lock --output-file requirements.lock requirements.in

clean: ## end everything and remove what was installed or written here (the cache stays)
	@if [ -x $(VENV_PYTHON) ]; then $(VENV_PYTHON) -m deploy.local down; fi
	@rm -rf .venv .local build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

ready: python
	@$(PYTHON) deploy/local/bootstrap.py

ready-dev: python
	@$(PYTHON) deploy/local/bootstrap.py --dev

.PHONY: python
python:
	@command -v $(PYTHON) >/dev/null || \
	  { echo 'There is no $(PYTHON); install Python 3.11 or newer (`sudo apt install python3 python3-venv`).' >&2; exit 1; }
