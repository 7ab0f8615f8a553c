# Every target starts from a bare Python: .venv is built on first use and brought up to date when its sources change.
PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install -qq --no-deps
READY := .venv/.installed

# Tests of servers wait for a daemon's next round for a good part of their time: two more at once than there are cores.
SERVED_BY = $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 2)))

# Tests that share a server go to one worker; the longest are begun first, as conftest.py has sorted them.
DEALT := --dist loadgroup --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: run test test-all fuzz proof dev lint bench lock clean help

# What a newcomer runs: deterministic, of every layer and promise, with nothing but what is in .venv.
QUICK := not slow and not needs_strace and not needs_browser and not needs_shared_data

run: $(READY) ## make 60 days of demo data and run the pipeline over them
	@$(BIN)/pipeline demo --days 60
	@$(BIN)/pipeline run

test: $(READY) ## run the quick tests, some minutes (ARGS="-k retry" chooses)
	@$(BIN)/pytest -n auto $(DEALT) -m "$(QUICK)" $(ARGS)

test-all: $(READY) ## run all tests: servers, browser, kills; properties with three times the examples
	@$(BIN)/pytest -n $(SERVED_BY) $(DEALT) --hypothesis-profile ci $(ARGS)

fuzz: $(READY) ## try the properties with random examples (ARGS="--minutes 10"; --help tells more)
	@$(BIN)/python -m pipeline_assets_tests.fuzz $(ARGS)

proof: $(READY) ## count kills, crashes, races and mutants in full, to docs/proofs (ARGS names some; goes on where it was)
	@$(BIN)/python -m pipeline_assets_tests.proofs $(ARGS)

dev: $(READY) ## open the UI and start the daemon (ARGS="-p 4000" sets the port)
	@echo "State is kept in .data/dagster, also where Dagster speaks of a temporary directory."
	@$(BIN)/dagster dev $(ARGS)

lint: $(READY) ## check style, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(READY) ## measure (ARGS names one benchmark)
	@$(BIN)/python -m benchmarks $(ARGS)

lock: $(READY) ## write requirements.lock from setup.cfg (ARGS=--upgrade takes newer versions)
	@$(BIN)/uv pip compile setup.cfg --extra dev --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --output-file requirements.lock --quiet $(ARGS)

clean: ## remove .venv, builds and caches; .data stays
	@rm -rf .venv build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .tmp_dagster_home_*
	@find . -name __pycache__ -not -path './.data/*' -prune -exec rm -rf {} +

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The stamp goes first and comes back last: without it .venv is built anew, with it only what changed is installed.
$(READY): requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "This project needs Python 3.11 or newer. '$(PYTHON)' says: $$($(PYTHON) --version 2>&1 | head -n 1)" >&2; \
		echo "Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up .venv (about a minute the first time) ..."
	@if [ -e $@ ]; then rm $@; else $(PYTHON) -m venv --clear .venv; fi
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-build-isolation --editable .
	@touch $@
