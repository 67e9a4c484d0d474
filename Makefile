# Two commands: `make repro` computes the study of params.yaml, `make test` checks the project. Each sets itself up.
SHELL := /bin/bash
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV

EVERY_METHOD := $(patsubst %,tests/pipeline/test_%.py,methods staleness upkeep declarations)

.PHONY: help preset check repro study test test-study test-every-method test-slow test-slurm test-faults lint style types install bench verify prune lock docs

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

preset: install  ## write params.yaml from presets/NAME.yaml: make preset NAME=smoke
	@python -m workflow.preset "$(NAME)"

check: install  ## say what is wrong with params.yaml, and compute nothing
	@python -m stages.validate --check && echo "params.yaml is valid"

repro: install  ## compute the study of params.yaml on all cores, and show its results: make repro CORES=1
	@python -m workflow.study --verbose $(if $(CORES),--cores $(CORES))
	@python -m tailnas.report.show results/report

study: install  ## the same with one line of progress, for a study of many runs: make study CORES=8
	@python -m workflow.study $(if $(CORES),--cores $(CORES))

test: install style  ## style, type checks and the test suite
	python -m pytest -n 2 --dist worksteal tests/unit tests/exactness tests/properties
	@$(MAKE) --no-print-directory --jobs 2 --output-sync test-every-method test-study types

test-study: install
	python -m pytest $(filter-out $(EVERY_METHOD),$(wildcard tests/pipeline/test_*.py))

test-every-method: install
	python -m pytest $(EVERY_METHOD)

test-slow: install  ## the tests that take too long for every day
	python -m pytest -m slow

test-slurm: install  ## start a Slurm on this machine, as root, and compute a study through profiles/slurm
	python -m pytest -m slurm -rs tests/pipeline/test_slurm.py

test-faults: install  ## a hundred kills, damage to every kind of file, full disks, little memory
	python -m pytest -n 2 --dist worksteal -m faults tests/faults

lint: style types

style: install
	ruff check .
	ruff format --check .

types: install
	mypy

install: .venv/installed  ## create .venv with the pinned dependencies

.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tailnas needs Python 3.11 or newer")'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

bench: install  ## time a search step against a plain implementation of DARTS
	python -m benchmarks.search_step

verify: install  ## compute the study a second time from nothing and compare every byte
	python -m workflow.verify

prune: install  ## remove results of runs that are no longer in the study, and finished or orphaned checkpoints
	python -m workflow.prune

lock:  ## write requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet \
	  pyproject.toml --extra report --extra pipeline --group engines --group test -o requirements.lock

docs: install  ## write what is generated: parameter reference and schema
	python -m workflow.reference
