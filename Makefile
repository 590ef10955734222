# `make demo` trains a network on real data; `make test` runs the tests. Both need Python 3.11 or newer, pip and make, and
# set up everything else in .venv, once: after that they start at once until pyproject.toml or requirements.lock changes.

PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo "$$python"; break; fi; done)
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.netspec-installed

.PHONY: help setup demo test test-long test-oldest lint picture clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       train LeNet on 1,797 handwritten digits (nothing to download but Python packages)"
	@echo "make test       run the tests"
	@echo "make test-long  run the tests that take minutes"
	@echo "make test-oldest  run the tests with the oldest torch that netspec holds for, in an environment of its own"
	@echo "make lint       ruff, mypy, and the drift check of generated/"
	@echo "make picture    draw docs/images/digits.png again"
	@echo "make clean      remove .venv and caches"

setup: $(STAMP)
	@echo "==> $(VENV) is ready"

# A distribution's Python may come without ensurepip: then its own pip fills the environment.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "netspec needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3"; exit 1; }
	@echo "==> making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV) && $(PYTHON) -m venv --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }

$(STAMP): pyproject.toml requirements.lock | $(BIN)/python
	@echo "==> installing netspec and what it needs into $(VENV) (PyTorch is large: the first time takes minutes)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint requirements.lock uv || \
		echo "    uv cannot be had here; pip does it too, more slowly"
	@if $(BIN)/python -m uv --version >/dev/null 2>&1 && \
		$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --editable '.[data,export,sweep,dev]'; \
	then :; else \
		$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint requirements.lock --editable '.[data,export,sweep,dev]'; \
	fi
	@touch $(STAMP)

demo: $(STAMP)
	@echo "==> training specs/digits.yaml"
	@$(BIN)/netspec train specs/digits.yaml

test: $(STAMP)
	@echo "==> testing"
	@$(BIN)/python -m pytest -n $(JOBS)

test-long: $(STAMP)
	@echo "==> testing what takes minutes"
	@$(BIN)/python -m pytest -m long

# By name and version, beside the lower bounds of pyproject.toml; torchvision asks for this torch.
OLDEST := .venv-oldest
OLDEST_PYTHON ?= $(PYTHON)
$(OLDEST)/.netspec-installed: pyproject.toml
	@test -x $(OLDEST)/bin/python || $(OLDEST_PYTHON) -m venv $(OLDEST)
	@$(OLDEST)/bin/python -m pip install -qq --disable-pip-version-check torch==2.11.0 torchvision==0.26.0 \
		--editable '.[data,export,sweep,dev]'
	@touch $@

test-oldest: $(OLDEST)/.netspec-installed
	@echo "==> testing with torch 2.11"
	@$(OLDEST)/bin/python -m pytest -n $(JOBS)

lint: $(STAMP)
	@echo "==> ruff: the package, its tests and benchmarks"
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@echo "==> ruff with its defaults: generated/"
	@$(BIN)/python -m ruff check --isolated --target-version py311 generated
	@$(BIN)/python -m ruff format --isolated --target-version py311 --check generated
	@echo "==> mypy: the package and generated/"
	@$(BIN)/python -m mypy netspec generated
	@echo "==> generated/ is what the specs say"
	@$(BIN)/netspec build --check specs

# The picture of the README, as the program draws it.
picture: $(STAMP)
	@scratch=$$(mktemp -d) && $(BIN)/netspec train specs/digits.yaml --run-dir "$$scratch/run" --progress none && \
		cp "$$scratch/run/curves.png" docs/images/digits.png && rm -rf "$$scratch"

clean:
	@echo "==> removing .venv and caches (runs/ stays)"
	@rm -rf $(VENV) $(OLDEST) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
