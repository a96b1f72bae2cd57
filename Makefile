# fclip: set up, try, test. `make demo` and `make test` each work on a fresh machine with Python >= 3.11.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
FCLIP := $(BIN)/fclip

.PHONY: help setup demo test lint soak bench weights clean lock

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

setup: .venv/ready ## make .venv with everything fclip needs (about a minute)

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fclip needs Python 3.11 or newer; set PYTHON=")'
	@echo "setup: making .venv (downloads PyTorch with its CUDA libraries once)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	-$(BIN)/python -m compileall -q fclip  # once, not in every process, where PYTHONDONTWRITEBYTECODE is set
	@touch $@

demo: setup ## the whole pipeline on rendered faces: demo/report.html (under 5 minutes on 2 cores)
	$(MAKE) --no-print-directory -j2 -C examples -f demo.mk FCLIP=$(abspath $(FCLIP)) ROOT=$(abspath demo)

test: setup ## all tests (under 10 minutes on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: setup ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

MINUTES ?= 10
soak: setup ## random kills, damaged files, full disks, two at once, for MINUTES=10
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.soak --minutes $(MINUTES)

bench: setup ## speed and memory as ratios, measured here
	$(BIN)/python -m tests.bench

weights: setup ## train the bundled networks again (an hour on one core); REAL_FACES=folder of labelled pictures of people
	$(BIN)/python -m examples.weights $(if $(REAL_FACES),--real-faces '$(REAL_FACES)')

lock: setup ## renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --extra mediapipe --extra tensorboard --group dev pyproject.toml -o requirements.lock

clean: ## remove what the targets above made (.venv, demo, caches)
	rm -rf .venv demo build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
