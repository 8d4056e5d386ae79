# On a fresh machine with Python 3.11, git and make, `make demo` and `make test` are all it takes: each makes .venv first.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# The first interpreter that runs and is new enough; override with `make PYTHON=/path/to/python ...`.
PYTHON ?= $(shell for candidate in python3.11 python3 python; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$candidate" && break; done)
BIN := .venv/bin
STAMP := .venv/.installed
TEST_PROCESSES ?= 2
DEMO_METHODS := -m random_subspace -m burn_in_subspace -m lottery_subspace -m imp

.PHONY: help
help:  ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "lowdim-bench needs Python 3.11 or newer, and found none on PATH." \
		"Install it, or say where it is: make PYTHON=/path/to/python3.11 venv" >&2; exit 2; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,docs,benchmarks,server]'
	@touch $@

.PHONY: venv
venv: $(STAMP)  ## Make .venv with the pinned packages (once; a few GB, some minutes)

.PHONY: demo
demo: $(STAMP)  ## Run the main job on scikit-learn's digits, in the folder demo/, and rank the methods
	@mkdir -p demo
	cd demo && export LOWDIM_BENCH_TRACKING_URI=sqlite:///mlflow.db \
		&& ../$(BIN)/lowdim-bench run digits-mlp $(DEMO_METHODS) \
		&& ../$(BIN)/lowdim-bench rank
	@printf '%s\n' '' 'Every trial, curve and figure of this ranking is in demo/. To look at them in a browser:' \
		'    cd demo && ../$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db' \
		'`make demo` again repeats no finished training. What to run next: README.md'

.PHONY: test
test: $(STAMP)  ## Run all tests, in TEST_PROCESSES processes
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadgroup

.PHONY: test-fast
test-fast: $(STAMP)  ## Run the tests that are not marked slow
	$(BIN)/python -m pytest -m "not slow"

.PHONY: lint
lint: $(STAMP)  ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

.PHONY: check
check: lint test  ## Run lint and all tests: what has to pass before a change lands

.PHONY: docs
docs: $(STAMP)  ## Build the documentation into site/, strictly: a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.PHONY: docs-serve
docs-serve: $(STAMP)  ## Show the documentation while you write, on this machine alone
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

# In a folder of its own, so that nothing that was measured before is in the pictures.
.PHONY: docs-pictures
docs-pictures: $(STAMP)  ## Run the tutorial's commands, and put the figures that they draw into docs/tutorial
	rm -rf build/tutorial && mkdir -p build/tutorial
	cd build/tutorial && export PATH="$(CURDIR)/$(BIN):$$PATH" && python "$(CURDIR)/docs/pictures.py"

.PHONY: format
format: $(STAMP)  ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The wheel as a stranger meets it: an empty environment of its own (packages downloaded anew), an empty folder.
WHEEL_TEST := $(CURDIR)/build/wheel-test
.PHONY: wheel-test
wheel-test: $(STAMP)  ## Build the wheel, install it into an empty environment and run it from an empty folder (minutes)
	rm -rf "$(WHEEL_TEST)" && mkdir -p "$(WHEEL_TEST)/empty"
	PIP_CONSTRAINT="$(CURDIR)/constraints.txt" $(BIN)/python -m build --outdir "$(WHEEL_TEST)/dist"
	"$(PYTHON)" -m venv "$(WHEEL_TEST)/venv"
	"$(WHEEL_TEST)/venv/bin/python" -m pip install --quiet -c constraints.txt "$(WHEEL_TEST)"/dist/*.whl
	cd "$(WHEEL_TEST)/empty" && export PATH="$(WHEEL_TEST)/venv/bin:$$PATH" LOWDIM_BENCH_STATE_DIR="$(WHEEL_TEST)/state" \
		LOWDIM_BENCH_TRACKING_URI=sqlite:///mlflow.db \
		&& lowdim-bench tasks --json \
		&& cp "$$(python -c 'from lowdim_bench.specs.catalogue import task_folder; print(task_folder())')/digits-mlp.yaml" own.yaml \
		&& lowdim-bench run digits-mlp -m random_subspace \
		&& lowdim-bench run own.yaml -m random_subspace \
		&& lowdim-bench rank
	@echo "wheel-test passed; $(WHEEL_TEST) can go (make clean)"

.PHONY: clean
clean:  ## Remove all that was made, but for .venv
	rm -rf build dist demo site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find lowdim_bench tests submissions -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
