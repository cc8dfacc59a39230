# Two commands do all the set-up on a fresh Debian machine with Python 3.11:
#   make demo    the main job, end to end, on the embedded defaults
#   make test    the tests
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PACKAGES := dicom_io models training worker
# For the small CPU build of torch, name its index: make demo TORCH_INDEX_URL=https://...
TORCH_INDEX_URL ?=
PEERS := orthanc orthanc-dicomweb dcmtk dicom3tools redis-server postgresql chromium sqlite3
PEER_PROGRAMS := Orthanc storescu dciodvfy redis-server pg_lsclusters chromium sqlite3
ORTHANC_DICOMWEB := /usr/share/orthanc/plugins/libOrthancDicomWeb.so
PYTEST_ARGS ?=
# One process a core and one more, for many tests wait for the programs that they started; each computes on one thread.
# The tests of a file stay in one process.
PROCESSES := $(shell "$(PYTHON)" -c 'import os; print(min(8, len(os.sched_getaffinity(0)) + 1))')
PARALLEL := -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo test check lint types imports house format models-report bench-archive peers lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed  ## make .venv with the exact versions of constraints.txt, the tests' packages included

$(VENV)/.installed: $(VENV)/.base
	@echo "installing what training, S3 and the tests need"
	@$(BIN)/pip install -c constraints.txt -e '.[s3,training,dev]'
	@touch $@

# What `bonewatch` itself needs, and nothing else
$(VENV)/.base: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "bonewatch needs Python 3.11 or newer; found: $$("$(PYTHON)" --version 2>&1). Say which to use: make PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 1; }
	@echo "[1/3] making $(VENV)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@if [ -n "$(TORCH_INDEX_URL)" ]; then \
	  echo "[2/3] installing torch and torchvision from the index you named"; \
	  $(BIN)/pip install -c constraints.txt --index-url "$(TORCH_INDEX_URL)" torch torchvision; \
	else \
	  echo "[2/3] torch comes from the default index (CPU and GPU build, about 3 GB; TORCH_INDEX_URL names another)"; \
	fi
	@echo "[3/3] installing bonewatch and what it needs"
	@$(BIN)/pip install -c constraints.txt -e .
	@touch $@

demo: $(VENV)/.base  ## push the sample studies through a whole bonewatch on this machine and show the reports
	@$(BIN)/bonewatch demo

test: setup  ## all tests; those that need an outside program are skipped where `make peers` was not run
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

lint: setup  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy, strict
	$(BIN)/mypy

imports: setup  ## the directions of the design
	$(BIN)/lint-imports

check: lint types imports test  ## what CI runs

house: setup  ## measures of the code's structure: rooms, lines, imports, settings
	@$(BIN)/python -m tests.house

format: setup  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

models-report: setup  ## write docs/models.md and its pictures from training/results and the shipped bundle
	@$(BIN)/python -m training.bundle.models_report --out docs

bench-archive: setup  ## measure lanes, scaling, the plan of a million studies and the queries (an hour; tests/bench)
	$(BIN)/python -m tests.bench.lanes
	$(BIN)/python -m tests.bench.scaling
	$(BIN)/python -m tests.bench.plan
	-$(BIN)/python -m tests.bench.million
	$(BIN)/python -m tests.bench.worklist

peers:  ## install the outside programs that the tests against real peers use (Debian packages; needs root)
	@missing=0; for program in $(PEER_PROGRAMS); do command -v "$$program" >/dev/null || missing=1; done; \
	test -e $(ORTHANC_DICOMWEB) || missing=1; \
	if [ $$missing = 0 ]; then echo "all peers are installed: $(PEERS)"; else \
	  apt-get update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(PEERS); fi

lock: setup  ## write constraints.txt from the environment in use
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/pip freeze --exclude-editable --exclude bonewatch --exclude pip --exclude setuptools --exclude wheel; } > constraints.new
	@mv constraints.new constraints.txt

clean:  ## remove what was made here, .venv included
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
