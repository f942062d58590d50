# `make` alone lists the targets. Everything runs in .venv, which the first target that needs it sets up.
.DEFAULT_GOAL := help
.PHONY: help demo test lint types clean
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 10

demo: $(READY) ## set up, and run the demo: does a simulated brain help? (2 minutes)
	$(BIN)/braindistill eval experiment=demo

test: $(READY) ## set up, and run all tests
	$(BIN)/python -m pytest -n 2

lint: $(READY) ## check format and style; `.venv/bin/ruff format . && .venv/bin/ruff check --fix .` mends
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY) ## check types
	$(BIN)/mypy

clean: ## remove build products and tool caches; results in outputs/ and .venv stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -e '.[dev]'
	@touch $@
