# `make demo` and `make test` do all the set-up themselves. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 2
export TOKENIZERS_PARALLELISM := false
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check static docs site bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.demo ## virtual environment, pinned dependencies, task image
	@scripts/setup.sh image

demo: setup ## the main job, end to end: rollouts, feedback, training, verdicts (DEMO="--seed 1" passes flags)
	@$(BIN)/devnull demo $(DEMO)

# Three workers, for two processors: a third of the time a test waits for a box. The order of the files: tests/conftest.py.
test: $(VENV)/.dev ## everything the tests need, then all tests (PYTEST="-k oracle" passes flags)
	@scripts/setup.sh test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST)

check: static site test ## format, lint, types, import law, generated docs, stored verdicts, the site, then the tests

static: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/docs.py --check
	$(BIN)/devnull claims check

docs: $(VENV)/.dev ## write anew what is generated: docs/commands.md, docs/glossary.md, docs/claims.md, README's line on the claims
	$(BIN)/python scripts/docs.py

site: $(VENV)/.dev ## the docs as a site, in site/: links and anchors hold, and the gallery's reports are made
	@begun=$$SECONDS; NO_MKDOCS_2_WARNING=1 timeout 300 $(BIN)/mkdocs build --strict --quiet && \
	echo "site/index.html: built in $$((SECONDS - begun)) s"

bench: setup ## speed, side by side with the alternatives
	@$(BIN)/devnull bench sandbox

clean: ## remove the virtual environment, build products and caches; runs/ stays
	rm -rf $(VENV) build site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis sandbox/native/build src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.demo: pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) scripts/setup.sh python $(VENV) ".[plot,smollm2]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) scripts/setup.sh python $(VENV) ".[dev]"
	@touch $@ $(VENV)/.demo
