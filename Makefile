# Two commands matter to a user: `make serve` and `make test`. Both keep to .venv in this folder.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
HOST   ?= 127.0.0.1
PORT   ?= 8000
BUNDLE ?= bundles/sky
# One thread a pool: the tests share the machine, and spinning pools are slower than none.
export OMP_NUM_THREADS ?= 1

# Processes that run test files at the same time: one for each core. WORKERS=0 runs all in one, as a debugger needs it.
WORKERS ?= logical
# Files are given out in the order of tests/conftest.py; without the option, those of the fewest tests would come last.
PYTEST  := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder -n $(WORKERS)

.PHONY: help serve test quick lint type arch unit outside parity torture bench docker-verify clean
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

serve: $(VENV)/.serve ## install what serving needs (no torch) and start the service: PORT=, HOST=, BUNDLE=
	exec $(BIN)/adafocus serve --bundle $(BUNDLE) --host $(HOST) --port $(PORT)

test: ## every check: lint, types, import contracts, tests, and a visit from outside
	@# The environments are made at the same time, and the static checks run beside the tests; the browser gets the
	@# machine to itself.
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target $(VENV)/.dev $(VENV)-outside/.ready
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target unit lint type arch
	$(MAKE) --no-print-directory outside

quick: lint arch $(VENV)/.dev ## for daily work, about two minutes: lint, import contracts, and the tests that are not slow
	$(PYTEST) -m "not slow"

lint: $(VENV)/.dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/.dev ## mypy --strict
	$(BIN)/mypy

arch: $(VENV)/.dev ## the import contracts of pyproject.toml
	$(BIN)/lint-imports

unit: $(VENV)/.dev ## the tests, one process for each core, and which of them took longest
	$(PYTEST) --durations=25

outside: $(VENV)/.serve $(VENV)-outside/.ready ## the tests from outside: the page in Chromium, other people's clients
	$(VENV)-outside/bin/python -m pytest -c tests/outside/pytest.ini --rootdir tests/outside -p no:cacheprovider tests/outside

parity: $(VENV)/.dev ## only the tests that hold the model to the authors' released code
	$(BIN)/python -m pytest -m parity

torture: $(VENV)/.dev ## attacks on a running service, about fifteen minutes: overload, attackers, mutants, kills, shortages, fuzzing
	$(PIP) -e '.[torture]' || echo "atheris cannot be had here: fuzzing is left out"
	for attack in overload attackers mutants kills shortages; do $(BIN)/python -m tests.torture.$$attack || exit 1; done
	$(BIN)/python -m tests.torture.fuzz --seconds 30

bench: $(VENV)/.dev ## the measurements behind README's tables, into benchmarks/results
	$(BIN)/python -m benchmarks.run_all

docker-verify: ## the images and the compose file, run for real; needs a Docker engine, promtool and curl
	docker/verify.sh

clean: ## forget the environment and every cache
	rm -rf $(VENV) $(VENV)-outside .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info build

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "adafocus needs Python 3.11 or newer; set PYTHON="; exit 1; }
	@# Debian and Ubuntu ship Python without venv; root can add it here, others are told what to ask for.
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq python3-venv; \
	  else echo "Python's venv is missing: sudo apt-get install python3-venv"; exit 1; fi; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml constraints.txt | $(VENV)/bin/python
	@# Bytecode is made of what is imported; of the rest it would be a seventh of the install.
	$(PIP) --no-compile -e '.[serve,draw]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@# pip would make the bytecode in one process, and also that of other people's tests, a fifth of the files.
	$(PIP) --no-compile -e '.[dev]'
	$(BIN)/python -W ignore -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib >/dev/null || true
	touch $(VENV)/.serve $@

$(VENV)-outside/.ready: tests/outside/requirements.txt tests/outside/requirements-bare.txt | $(VENV)/bin/python
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; \
	  else echo "The page is tested in Chromium: sudo apt-get install chromium"; exit 1; fi; }
	$(PYTHON) -m venv $(VENV)-outside
	$(VENV)-outside/bin/python -m pip --disable-pip-version-check install --quiet -r tests/outside/requirements.txt
	$(VENV)-outside/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r tests/outside/requirements-bare.txt
	touch $@
