# jupyter_elastic: everything starts from a clean clone with Python, Node.js and make.
#
# Stamp files make every target cheap to repeat: what is up to date is not done again.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

# `make PYTHON=/path/to/python3.12` overrides the search of scripts/find_python.sh.
PYTHON ?=
PORT ?= 8888
ARGS ?=
TESTS ?=
SOAK ?= 10
CHROMIUM ?= /usr/bin/chromium

VENV := .venv
LOWEST := .venvs/lowest
BIN := $(VENV)/bin
JLPM := PATH="$(CURDIR)/$(BIN):$$PATH" PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 jlpm
LABEXT := jupyter_elastic/labextension/package.json
REPORTS := build/reports
# Jupyter refuses to run as root unless told that it is meant.
ALLOW_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
# Tests must not see the developer's own Jupyter and IPython configuration.
PYTEST := env -u JUPYTER_CONFIG_DIR -u JUPYTER_DATA_DIR -u IPYTHONDIR
# Runs beside each other keep apart what failed last.
PYTEST_OPTIONS = --junitxml=$(REPORTS)/$@.xml -o cache_dir=build/pytest-$@

# Most tests wait for most of their time, so two lanes of them run at once; browsers run alone.
PHASES := frontend lint layers test-wheel test-kubernetes+test-unit,test-lowest test-ui

FRONTEND_SOURCES := $(wildcard package.json yarn.lock tsconfig*.json install.json) \
  $(shell find src style schema -type f -not -path '*/__tests__/*' 2>/dev/null)

##@ Use

.PHONY: lab
lab: $(VENV)/.lab $(LABEXT) ## Start JupyterLab on the demo notebook (PORT=8888, ARGS="--no-browser")
	@exec $(BIN)/jupyter lab $(ALLOW_ROOT) --port=$(PORT) --ServerApp.root_dir=demo \
	  --LabApp.default_url=/lab/tree/demo.ipynb $(ARGS)

.PHONY: build
build: $(LABEXT) ## Build the front end into jupyter_elastic/labextension

.PHONY: dist
dist: $(VENV)/.dev $(LABEXT) ## Build sdist and wheel into dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

##@ Test

.PHONY: test
test: ## Everything that CI runs: one line per phase at the end
	@$(MAKE) --no-print-directory env
	@$(BIN)/python scripts/phases.py --make "$(MAKE)" --reports $(REPORTS) $(PHASES)

.PHONY: env
env: $(VENV)/.dev ## The development environment in .venv

.PHONY: frontend
frontend: $(LABEXT) | $(REPORTS) ## Lint, unit tests and build of the front end
	@status=0; \
	$(JLPM) run lint:check || status=1; \
	$(JLPM) run test --json --outputFile=$(REPORTS)/frontend.json $(TESTS) || status=1; \
	exit $$status

.PHONY: lint
lint: $(VENV)/.dev ## ruff, mypy --strict, and whether the generated reference is up to date
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/ruff format --check . || status=1; \
	$(BIN)/mypy || status=1; \
	$(BIN)/python docs/generate.py --check || status=1; \
	exit $$status

.PHONY: layers
layers: $(VENV)/.dev ## The layer check: each layer imports only those below it
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/.dev node_modules/.installed ## Let ruff and prettier rewrite what they can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(JLPM) run lint

.PHONY: test-unit
test-unit: $(VENV)/.dev $(LABEXT) | $(REPORTS) ## Python tests, newest versions (TESTS="tests/agent -k oom")
	$(PYTEST) $(BIN)/python -m pytest $(PYTEST_OPTIONS) \
	  $(if $(TESTS),$(TESTS),--ignore=tests/kubernetes)

.PHONY: test-kubernetes
test-kubernetes: $(VENV)/.dev $(LABEXT) | $(REPORTS) ## Those on a real Kubernetes, which they start (as root)
	$(PYTEST) $(BIN)/python -m pytest $(PYTEST_OPTIONS) \
	  $(if $(TESTS),$(TESTS),tests/kubernetes)

.PHONY: test-lowest
test-lowest: $(LOWEST)/.installed $(LABEXT) | $(REPORTS) ## The same with the lowest versions that pyproject.toml allows
	@$(LOWEST)/bin/python --version
	$(PYTEST) $(LOWEST)/bin/python -m pytest $(PYTEST_OPTIONS) \
	  -m "not newest and not kubernetes and not fault" $(TESTS)

.PHONY: test-wheel
test-wheel: dist ## Install wheel and sdist where there is no Node.js, and use them
	$(BIN)/python scripts/check_wheel.py dist

.PHONY: test-ui
test-ui: $(VENV)/.dev $(LABEXT) ui-tests/node_modules/.installed | $(REPORTS) ## Galata tests in Chromium (TESTS="-g resize")
	@CHROMIUM="$(CHROMIUM)" scripts/need_chromium.sh || { \
	  [ $$? -eq 77 ] || exit 1; \
	  echo "no Chromium at $(CHROMIUM)" > $(REPORTS)/test-ui.skipped; exit 0; \
	}; \
	cd ui-tests; \
	PLAYWRIGHT_JUNIT_OUTPUT_NAME="$(CURDIR)/$(REPORTS)/test-ui.xml" CHROMIUM="$(CHROMIUM)" \
	$(JLPM) playwright test --reporter=list,junit $(TESTS)

.PHONY: cluster-build
cluster-build: $(VENV)/.dev ## Build the Kubernetes of tests/kubernetes (7 min; once per version)
	$(BIN)/python -m tests.testcluster build

.PHONY: cluster-up
cluster-up: $(VENV)/.dev ## Start that Kubernetes (as root; 5 s), and let it run for all tests
	$(BIN)/python -m tests.testcluster up

.PHONY: cluster-down
cluster-down: $(VENV)/.dev ## End it; nothing of it stays
	$(BIN)/python -m tests.testcluster down

.PHONY: soak
soak: export JUPYTER_ELASTIC_SOAK := 1
soak: $(VENV)/.dev ## Repeat the fault tests, the long way (SOAK=10 times)
	for run in $$(seq $(SOAK)); do \
	  echo "== soak $$run of $(SOAK)"; \
	  $(PYTEST) JUPYTER_ELASTIC_SOAK=1 $(BIN)/python -m pytest -q -m fault $(TESTS); \
	done

.PHONY: bench
bench: $(VENV)/.lab ## Measure start, restart and idle cost, pooled against plain
	$(BIN)/python -m benchmarks.launch $(ARGS)

.PHONY: bench-kubernetes
bench-kubernetes: cluster-up ## The same on the real Kubernetes of `make cluster-up`, and resizes
	$(BIN)/python -m benchmarks.launch --cluster kubernetes $(ARGS)
	$(BIN)/python -m benchmarks.resize $(ARGS)

.PHONY: bench-crowd
bench-crowd: cluster-up ## Thousands of kernels there, of nodes that pretend (10 min; ARGS="--kernels 500")
	$(BIN)/python -m benchmarks.crowd $(ARGS)

.PHONY: docs-screenshot
docs-screenshot: export UPDATE_SCREENSHOT := 1
docs-screenshot: ## Renew the pictures in README and docs by their Galata tests
	$(MAKE) --no-print-directory test-ui TESTS="-g screenshot"
	$(BIN)/python scripts/animate.py build/frames docs/resize.png

##@ Tidy

.PHONY: clean
clean: ## Remove what was built; environments and node_modules stay
	[ ! -d build/testcluster ] || $(BIN)/python -m tests.testcluster down
	rm -rf build dist lib jupyter_elastic/labextension tsconfig.tsbuildinfo demo/*.csv
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -f $(VENV)/.lab

.PHONY: distclean
distclean: clean ## Remove everything that a clean clone does not have
	rm -rf $(VENV) .venvs node_modules ui-tests/node_modules .yarn ui-tests/.yarn

.PHONY: help
help: ## Show this text
	@awk 'BEGIN {FS = ":.*## "; printf "usage: make TARGET\n"} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# -- environments --------------------------------------------------------------------------

$(REPORTS):
	@mkdir -p $@

$(VENV)/.created:
	@scripts/make_venv.sh $(VENV) "$(PYTHON)"
	@touch $@

# jupyter-builder brings jlpm, so that no other package manager is needed.
$(VENV)/.tools: $(VENV)/.created
	$(BIN)/python -m pip install --quiet "jupyter-builder>=1.3"
	@touch $@

node_modules/.installed: package.json $(wildcard yarn.lock .yarnrc.yml) | $(VENV)/.tools
	@scripts/need_node.sh
	@echo "installing the front end's packages: minutes the first time (build/jlpm.log) ..."
	@mkdir -p build
	@$(JLPM) install $(if $(wildcard yarn.lock),--immutable) >build/jlpm.log 2>&1 || \
	  { cat build/jlpm.log; exit 1; }
	@touch $@

# A production build only: a development build left here would be packed into the wheel.
$(LABEXT): node_modules/.installed $(FRONTEND_SOURCES)
	$(JLPM) run build:prod
	@touch $@

# Lab is served the build in the source tree, by a link. The link must be away while pip works:
# pip would write and delete through it.
LINK := $(VENV)/share/jupyter/labextensions/jupyter_elastic
define install_editable
	@if [ -L $(LINK) ]; then rm $(LINK); fi
	@rm -f jupyter_elastic/labextension/install.json
	$(BIN)/python -m pip install --quiet --editable ".[$(1)]"
	@$(BIN)/jupyter-builder develop --overwrite . >/dev/null
endef

$(VENV)/.lab: pyproject.toml $(wildcard jupyter-config/server-config/*.json) | $(VENV)/.created $(LABEXT)
	@echo "installing JupyterLab, jupyter_elastic and what the demo imports into $(VENV) ..."
	$(call install_editable,demo)
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.lab
	@echo "installing what the tests need into $(VENV) ..."
	$(call install_editable,dev)
	@touch $@

$(LOWEST)/.installed: pyproject.toml scripts/lower_bounds.py | $(VENV)/.dev
	@scripts/make_venv.sh $(LOWEST) "$(if $(PYTHON),$(PYTHON),$$(scripts/find_python.sh 3.10 3.11 3.12))"
	$(BIN)/python scripts/lower_bounds.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --editable ".[test]" --constraint $(LOWEST)/constraints.txt
	$(BIN)/python scripts/lower_bounds.py --check $(LOWEST)/bin/python
	@touch $@

ui-tests/node_modules/.installed: ui-tests/package.json $(wildcard ui-tests/yarn.lock ui-tests/.yarnrc.yml) | $(VENV)/.tools
	@scripts/need_node.sh
	@echo "installing what the browser tests need (build/jlpm-ui-tests.log) ..."
	@mkdir -p build
	@(cd ui-tests && $(JLPM) install $(if $(wildcard ui-tests/yarn.lock),--immutable)) \
	  >build/jlpm-ui-tests.log 2>&1 || { cat build/jlpm-ui-tests.log; exit 1; }
	@touch $@
