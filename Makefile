# One word per task; `make` alone lists them. Needs Python 3.11 or newer and a place to install packages from.
# PYTHON=... chooses the interpreter, WORKERS=... the parallel test processes, ARGS=... adds arguments to the tool behind, SERVERS=... to `servers`.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
WORKERS ?= 2
ARGS ?=
SERVERS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
BENCH_INSTALLED := $(VENV)/.installed-bench
PYTEST = $(BIN)/python -m pytest
PARALLEL := -n $(WORKERS) --dist worksteal
# Tests on servers wait for these half of the time, so one process more keeps the machine busy.
WAITING := -n $(shell expr $(WORKERS) + 1) --dist worksteal
# Where the servers for tests are, if `make servers` has started some or the environment names others; without them tests say so and skip.
ON_SERVERS = env $$(test ! -e .servers.env || grep '^MILLRACE_' .servers.env)
EMBEDDED := --ignore tests/engines --ignore tests/postgres
MIXES := sqlite/postgres kafka/sqlite kafka/postgres
MIXED := $(foreach engine,$(MIXES),--millrace-engine $(engine))
# The shop's tests in processes of their own and over HTTP, and a sample of them, on the engines that PARCOMOLO_TEST_ENGINE names.
PLATFORM := tests/e2e tests/parcomolo/http tests/crash/test_two_processes.py tests/crash/test_stopping.py
SAMPLE := tests/e2e/test_many_at_once.py tests/parcomolo/http/test_checkout.py

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install run run-kafka test test-all soak check fix bench bench-kafka coverage pins servers stop-servers clean reset

help: ## list these words
	@echo "Millrace, and Parcomolo built on it. Start with: make run"
	@echo
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with both packages and every tool

$(INSTALLED): pyproject.toml parcomolo/pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and none was found; name one: make PYTHON=/path/to/python" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "PYTHON=$(PYTHON) is $$("$(PYTHON)" --version 2>&1 || true); Python 3.11 or newer is needed" >&2; exit 2; }
	@echo "Installing into $(VENV) ..."
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV) >/dev/null 2>&1 || { \
		rm -rf $(VENV) && "$(PYTHON)" -m venv --without-pip $(VENV) && \
		"$(PYTHON)" -m pip --disable-pip-version-check --python $(BIN)/python install --quiet pip; }
	@$(PIP) install --quiet --constraint constraints.txt hatchling editables
	@$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]' --editable ./parcomolo
	@touch $@

$(BENCH_INSTALLED): $(INSTALLED)
	@echo "Installing what the benchmarks compare with ..."
	@$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable '.[bench]'
	@touch $@

run: install ## start the shop on 127.0.0.1:8000, installing it when needed
	@exec $(BIN)/parcomolo serve $(ARGS)

run-kafka: servers ## start the shop on Kafka and PostgreSQL, starting these when needed
	@set -a && . ./.servers.env && exec $(BIN)/parcomolo serve $(ARGS)

test: install ## everything on the embedded engine that fits in ten minutes
	$(PYTEST) -m "serial and not slow and not soak" $(ARGS) || test $$? -eq 5
	$(PYTEST) $(PARALLEL) -m "not slow and not soak and not serial" $(EMBEDDED) $(ARGS)

test-all: test ## the above, then every engine and the crash points of most paths; needs `make servers` for all but the embedded engine
	$(ON_SERVERS) $(PYTEST) $(WAITING) -m "not soak" --timeout 300 $(MIXED) $(ARGS) tests/conformance
	$(ON_SERVERS) PARCOMOLO_TEST_ENGINE=kafka/postgres $(PYTEST) $(WAITING) -m "not slow and not soak" --timeout 300 $(ARGS) $(SAMPLE)
	$(ON_SERVERS) $(PYTEST) $(WAITING) -m "not slow and not soak" --timeout 300 $(ARGS) tests/engines tests/postgres
	$(ON_SERVERS) $(PYTEST) $(WAITING) -m "slow and not soak" --timeout 900 $(ARGS)

soak: install ## what takes hours, and the shop's tests on every mix of engines; needs `make servers` for all but the embedded engine
	$(ON_SERVERS) $(PYTEST) -m soak --timeout 0 $(ARGS)
	for mix in $(MIXES); do \
		$(ON_SERVERS) PARCOMOLO_TEST_ENGINE=$$mix $(PYTEST) $(PARALLEL) -m "not soak and not serial" --timeout 900 $(ARGS) $(PLATFORM) || exit 1; \
		$(ON_SERVERS) PARCOMOLO_TEST_ENGINE=$$mix $(PYTEST) -m "serial and not soak" --timeout 900 $(ARGS) $(PLATFORM) || exit 1; \
	done

check: install ## style, types, import direction and house rules, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(PYTEST) -q -m "not slow" tests/architecture

fix: install ## let ruff mend and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH_INSTALLED) ## measure speed against the straight-line twins and the peers
	$(BIN)/python -m benchmarks $(ARGS)

bench-kafka: $(BENCH_INSTALLED) servers ## the same on Kafka and PostgreSQL, starting these when needed
	$(BIN)/python -m benchmarks --servers $(ARGS)

coverage: install ## what the fast tests reach, as a table and in build/coverage/html
	@rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run -m pytest $(PARALLEL) -m "not slow and not soak and not serial" $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report

servers: install ## start Kafka and PostgreSQL for development and tests; writes .servers.env
	@$(BIN)/python -m deploy.servers start $(SERVERS)

stop-servers: install ## stop them
	@$(BIN)/python -m deploy.servers stop

pins: ## resolve the newest versions that the packages allow and write them to constraints.txt
	@rm -rf build/pins && "$(PYTHON)" -m venv build/pins
	build/pins/bin/python -m pip --disable-pip-version-check install --quiet '.[dev,bench]' ./parcomolo
	@{ grep '^#' constraints.txt; build/pins/bin/python -m pip --disable-pip-version-check freeze | \
		grep -v -e '^-' -e '@' -e '^millrace' -e '^parcomolo'; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt && rm -rf build/pins

clean: ## remove the environment, caches and build products; keep the data
	rm -rf $(VENV) build dist .cache .coverage* .hypothesis .import_linter_cache .pytest_cache .ruff_cache .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

reset: install ## delete the data of the shop, after asking
	@$(BIN)/parcomolo reset $(ARGS)
