# latentd's commands. They need make and Python 3.11 or later; everything else is installed into .venv and .venv-run.
PYTHON ?= python3
PORT ?= 7860
DATA ?= .make/data
ARGS ?=
# Processes of the tests, of one thread each; two need 12 GB of memory.
JOBS ?= 2

PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
# Plugins that need no torchvision; what `make run` installs beside the core.
LIGHT := $(filter plugins/tinymodel plugins/web,$(PLUGINS))
SOURCES := $(shell find core $(LIGHT) -type f -not -path '*/__pycache__/*' -not -path '*/node_modules/*' 2>/dev/null)
# What the tests of TypeScript clients and of the page need; without npm they are skipped.
NODE := tests/clients/node plugins/web/page
PROJECTS := pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS))
BIN := .venv/bin

.PHONY: help env run test check types docs dist bench fuzz soak mutations parity core-alone clean
help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

env: .make/env  ## the full development environment in .venv
.make/env: $(PROJECTS) $(wildcard constraints/*.txt) $(addsuffix /package-lock.json,$(NODE))
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip hatchling editables
	$(BIN)/pip install --quiet -c constraints/dev.txt $$($(PYTHON) tools/torch_choice.py) torch torchvision
	$(BIN)/pip install --quiet -c constraints/dev.txt --no-build-isolation --group dev -e . $(foreach plugin,$(PLUGINS),-e "./$(plugin)[test]")
	@! command -v npm >/dev/null || for folder in $(NODE); do npm ci --silent --ignore-scripts --prefix $$folder || echo "npm ci failed in $$folder"; done
	@mkdir -p .make && touch $@

run: .make/run  ## start the server and draw a first picture (PORT=, DATA=, ARGS=)
	@mkdir -p .make/data
	@.venv-run/bin/python tools/first_picture.py $(PORT) --data-dir $(DATA) $(ARGS)
.make/run: pyproject.toml $(SOURCES) constraints/common.txt constraints/light.txt
	$(PYTHON) -m venv .venv-run
	.venv-run/bin/pip install --quiet -c constraints/light.txt $$($(PYTHON) tools/torch_choice.py) . $(addprefix ./,$(LIGHT))
	@mkdir -p .make && touch $@

# Some hundred processes are started, each of which would compile the source where bytecode is not kept.
test: env  ## the whole test suite (ARGS= for pytest, JOBS= processes)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: env docs  ## lint, types, layers, versions, documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) types
	$(BIN)/lint-imports
	$(BIN)/python tools/versions.py

types: env  ## mypy over the core, the plugins, the tools and the benchmarks
	$(BIN)/mypy

docs: env  ## the documentation, warnings are errors
	$(BIN)/python tools/reference.py --check
	$(BIN)/python tools/compatibility.py --check
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

bench: env  ## the benchmarks (ARGS=)
	$(BIN)/python -m benchmarks $(ARGS)

fuzz: env  ## the fuzzers of file readers and of the API, ten minutes each (ARGS=--seconds N)
	for target in pickles safetensors pictures; do $(BIN)/python -m tests.fuzz $$target $(or $(ARGS),--seconds 600) || exit 1; done
	$(BIN)/python -m tests.fuzz.api $(or $(ARGS),--seconds 600)

soak: env  ## thousands of mixed jobs against a server, and what it holds in memory (ARGS=--jobs N)
	$(BIN)/python tools/soak.py $(ARGS)

mutations: env  ## put known faults into the source, and see a fast test notice each (ARGS=WORDS)
	$(BIN)/python tools/mutations.py $(ARGS)

parity: env  ## compare with recordings of AUTOMATIC1111 (REFERENCE=, ARGS=--only GROUP)
	$(BIN)/python tools/parity.py $(if $(REFERENCE),--reference $(REFERENCE)) $(ARGS)

core-alone: .make/core  ## the core without any plugin starts and answers
	.venv-core/bin/python tools/core_alone.py
.make/core: pyproject.toml $(SOURCES) constraints/common.txt constraints/light.txt
	$(PYTHON) -m venv .venv-core
	.venv-core/bin/pip install --quiet -c constraints/light.txt $$($(PYTHON) tools/torch_choice.py) .
	@mkdir -p .make && touch $@

dist: .make/dist  ## every distribution in dist/, source and wheel, checked
	rm -rf dist
	for project in . $(PLUGINS); do .venv-dist/bin/python -m build --outdir dist $$project >/dev/null || exit 1; done
	.venv-dist/bin/python -m twine check --strict dist/*
	.venv-dist/bin/python tools/versions.py
.make/dist: constraints/dev.txt
	$(PYTHON) -m venv .venv-dist
	.venv-dist/bin/pip install --quiet -c constraints/dev.txt build twine packaging
	@mkdir -p .make && touch $@

clean:  ## remove the environments and what was built
	rm -rf .venv .venv-run .venv-core .venv-dist .make build dist docs/_build $(addsuffix /node_modules,$(NODE))
