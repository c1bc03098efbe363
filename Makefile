# Developer commands. They need Python 3.11 or later and make; everything else is installed into .venv, and what the
# live tests talk to into .tools. `make` alone lists them.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
CONFIG ?= config/firehose.yaml
JOBS ?= 2
KILLS ?= 1000
MEGABYTES ?= 100
SEED ?= 1
SEEDS ?= 1000

VENV := .venv
BIN := $(VENV)/bin
K6 := .tools/bin/k6
K6_MODULE := go.k6.io/k6@v1.8.1
SERVICE := $(VENV)/.service-installed
TESTS := $(VENV)/.tests-installed
RELEASES := tests/constraints.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint $(RELEASES)
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help demo serve test live test-live tools lint format bench torture hostile soak simulate releases clean

help:  ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: $(SERVICE)  ## run the service, send it sample logs, show what it delivers
	@$(BIN)/python -m firehose.demo

serve: $(SERVICE)  ## run the service (CONFIG=config/firehose.yaml)
	@exec $(BIN)/firehose serve -c $(CONFIG)

test: $(TESTS)  ## the tests that need nothing but Python, JOBS=2 at once
	@$(BIN)/pytest -q --numprocesses $(JOBS)

live: $(TESTS) tools  ## only the tests against real servers and clients, and the kill tests, JOBS=2 files at once
	@$(BIN)/pytest -q -m 'live or kill' --numprocesses $(JOBS) --dist loadfile

test-live: test live  ## all tests

tools: $(TESTS)  ## install the servers and clients of the live tests
	@PYTHON=$(BIN)/python tests/live/install

lint: $(TESTS)  ## style, format and types
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "make format mends that"; exit 1; }
	@$(BIN)/mypy --strict
	@bash -n .ci/run tests/live/install

format: $(TESTS)  ## mend what can be mended of style and format
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format .

bench: $(TESTS)  ## speed, beside the machine's floor; every record of every run counted (ARGS=--help for more)
	@[ -x $(K6) ] || [ -n "$(filter --list --help -h,$(ARGS))" ] || ! command -v go >/dev/null || { \
		echo "Installing k6 ..." && GOBIN=$(CURDIR)/.tools/bin go install $(K6_MODULE) >/dev/null 2>&1; \
		} || echo "no k6: our own open loop instead"
	@PYTHONPATH=tests:tests/support $(BIN)/python -m bench $(ARGS)

torture: $(TESTS)  ## kill -9 and worse under load, every acknowledged record accounted for (KILLS=1000 MEGABYTES=100 SEED=1)
	@$(BIN)/python tests/torture/plug.py --megabytes $(MEGABYTES) --seed $(SEED)
	@$(BIN)/python tests/torture/kills.py --kills $(KILLS) --seed $(SEED) $(ARGS)

hostile: $(TESTS)  ## an S3 store that fails at every step (ARGS="--minutes 10 --seed 1")
	@$(BIN)/python tests/torture/hostile.py $(ARGS)

soak: $(TESTS)  ## load, reloads, outages and kills at once (ARGS="--minutes 30"); redraws docs/soak.svg
	@$(BIN)/python tests/torture/soak.py --picture docs/soak.svg $(ARGS)

simulate: $(TESTS)  ## the whole service on virtual time, one life after the other (SEEDS=1000)
	@$(BIN)/python tests/simulation/simulate.py --seeds $(SEEDS) $(ARGS)

releases: $(TESTS)  ## take the newest releases of all that is depended on; test-live must pass with them
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --upgrade --upgrade-strategy eager --editable '.[test]'
	@{ sed -n '/^#/p' $(RELEASES) && $(BIN)/python -m pip freeze --exclude-editable; } > $(RELEASES).new
	@mv $(RELEASES).new $(RELEASES)

clean:  ## remove what these commands have installed
	rm -rf $(VENV) .tools

# Made anew only when what is depended on changes. A half-made environment has no stamp, and is made again.
$(SERVICE): pyproject.toml $(RELEASES)
	@$(if $(PYTHON),,echo "Python 3.11 or later is needed; name it: make PYTHON=/path/to/python3.11"; exit 1;) \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11; name a later one: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) --editable .
	@touch $@

$(TESTS): $(SERVICE)
	@echo "Installing what the tests need ..."
	@$(PIP) --editable '.[test]'
	@touch $@
