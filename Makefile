# Set-up, checks and training with one command each, on a fresh machine too: every target that needs packages first makes
# .venv and installs the versions of constraints.txt. A second run installs nothing until pyproject.toml or constraints.txt
# changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# torch's default wheel for Linux on x86-64 is a CUDA build of several gigabytes. Without an NVIDIA GPU the CPU build is
# enough: set TORCH_INDEX to the address of PyTorch's package index for CPU wheels (the install selector on PyTorch's web
# site shows it), or let pip find a wheel on disk: make test PIP_EXTRA_ARGS="--find-links DIR". Of two builds of one
# version pip prefers the one with a label such as "+cpu", so an extra index is all that is needed.
TORCH_INDEX ?=
# More options for every call of pip install.
PIP_EXTRA_ARGS ?=

# --overwrite begins anew where runs/train holds a run; --resume goes on with it.
TRAIN_MODE ?= --overwrite
TRAIN_ARGS ?=
LADDER_ARGS ?=
BENCH_ARGS ?=
RLLIB_ARGS ?=
VERSIONS_ARGS ?=
WHEEL_ARGS ?=
PYTEST_ARGS ?= -n auto --dist loadfile

PIP_OPTIONS := --disable-pip-version-check $(PIP_EXTRA_ARGS)
# Python compiles what is imported, when it is; to compile all that is installed takes half a minute.
PIP_INSTALL := $(BIN)/python -m pip install --no-compile $(PIP_OPTIONS) --constraint constraints.txt
# Two calls of make at once in one clone set it up in turn: whoever comes second waits, and then finds it done. The lock is on
# this file, and goes with the process that holds it.
define ALONE
import fcntl, os, sys
file = os.open("Makefile", os.O_RDONLY)
try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    print("Another make is setting up this clone: waiting until it is done", flush=True)
    fcntl.flock(file, fcntl.LOCK_EX)
os.set_inheritable(file, True)
os.execvp(sys.argv[1], sys.argv[1:])
endef
export ALONE
SET_UP := +@$(PYTHON) -c "$$ALONE" $(MAKE) -s
# The small tensors of the tests gain nothing from threads inside an operation, and workers would fight over the cores.
PYTEST := OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m pytest $(PYTEST_ARGS)

.PHONY: help train ladder bench rllib test test-slow test-gpu test-versions lint docs format wheel install clean distclean
.PHONY: set-up-train set-up-dev set-up-gpu set-up-browser set-up-rllib
.DEFAULT_GOAL := help

help: ## show this list
	@echo "torchgym: make TARGET [VARIABLE=value]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r t d; do printf '%-15s %s\n' "$$t" "$$d"; done
	@echo
	@echo "  PYTHON=python3       interpreter that makes .venv; it must be a Python 3.11"
	@echo "  TORCH_INDEX=URL      index of CPU wheels, for a machine without an NVIDIA GPU; PyTorch's install selector shows it"
	@echo "  PIP_EXTRA_ARGS=...   more options for every pip install, such as --find-links DIR"
	@echo "  TRAIN_ARGS=...       options of torchgym train, such as --preset volatile --seed 1"
	@echo "  TRAIN_MODE=--resume  go on with an interrupted training instead of beginning anew"
	@echo "  LADDER_ARGS=...      options of torchgym ladder, such as --device cuda"
	@echo "  BENCH_ARGS=...       options of benchmarks/speed.py, such as --cases 4 12"
	@echo "  RLLIB_ARGS=...       options of examples/rllib_ppo.py, such as --num-env-runners 2"
	@echo "  VERSIONS_ARGS=...    options of tests/versions.py, such as --only 3.12 oldest"
	@echo "  WHEEL_ARGS=...       options of torchgym.engine.ahead, such as --only default-1 --isa avx2"
	@echo "  PYTEST_ARGS=...      options of pytest (default: $(PYTEST_ARGS))"

train: set-up-train ## train an agent, measure it against scripted policies, and make a page of it: runs/train/report.html
	$(BIN)/python -m torchgym train runs/train $(TRAIN_MODE) $(TRAIN_ARGS)
	$(BIN)/python -m torchgym report runs/train

ladder: set-up-train ## train on the tasks of the learnability ladder; stopped, it goes on from where it stood
	$(BIN)/python -m torchgym ladder --results benchmarks/ladder $(LADDER_ARGS); told=$$?; \
		if [ -e benchmarks/ladder/ladder.png ]; then mv benchmarks/ladder/ladder.png docs/ladder.png; fi; exit $$told

bench: set-up-train ## measure speed, compare it with the commit measured before, add it to benchmarks/results/speed.csv
	$(BIN)/python benchmarks/speed.py $(BENCH_ARGS)

rllib: set-up-rllib ## train an agent with RLlib, which wants another gymnasium and so gets an environment of its own
	.venv-rllib/bin/python -W ignore::DeprecationWarning examples/rllib_ppo.py $(RLLIB_ARGS)

test: lint docs set-up-browser ## all checks: format, lint, types, documentation, then tests, doctests and examples (not the slow ones)
	$(BIN)/python tests/programs.py
	$(PYTEST) -m "not slow"

test-slow: set-up-dev ## the slow tests alone
	$(PYTEST) -m slow

test-gpu: set-up-gpu ## what a GPU would run, compiled, looked at and interpreted without one; Triton takes 700 MB
	$(PYTEST) tests/test_gpu_kernels.py

test-versions: ## the quick tests on each Python that torch can be had for, and on the oldest versions that are admitted
	$(PYTHON) tests/versions.py $(VERSIONS_ARGS) --pip-args="$(PIP_EXTRA_ARGS) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))" -- $(PYTEST_ARGS)

lint: set-up-dev ## format, lint and types, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: set-up-dev ## the documentation as a site in build/site; a warning is an error
	$(BIN)/python docs/tools/tables.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: set-up-dev ## format the code and mend what the linter can
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

wheel: set-up-train ## a wheel for this platform in dist, with the compiled steps of common markets inside
	rm -rf build/programs
	$(BIN)/python -m torchgym.engine.ahead build/programs $(WHEEL_ARGS)
	TORCHGYM_PROGRAMS=$(CURDIR)/build/programs $(BIN)/python -m pip wheel $(PIP_OPTIONS) --no-deps --wheel-dir dist .

install: set-up-dev ## set up .venv with everything a developer needs

clean: ## remove caches and build output
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

distclean: clean ## remove .venv, .venv-rllib and .venv-versions as well
	rm -rf $(VENV) .venv-rllib .venv-versions

set-up-train set-up-dev set-up-gpu set-up-browser:
	$(SET_UP) $(@:set-up-%=$(VENV)/.stamp-%)

set-up-rllib:
	$(SET_UP) .venv-rllib/.stamp

$(VENV)/.stamp-venv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "torchgym needs Python 3.11: make PYTHON=...")'
	@echo "Setting up $(VENV) with the versions of constraints.txt: some minutes, once"
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first and alone: the one package whose source a machine may choose.
$(VENV)/.stamp-torch: constraints.txt | $(VENV)/.stamp-venv
	@if [ -z "$(TORCH_INDEX)" ] && [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
		echo "No NVIDIA GPU found. Should pip now fetch CUDA packages, stop it and give the target an index of CPU wheels: make train TORCH_INDEX=URL (PyTorch's install selector shows the URL)"; fi
	$(PIP_INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	@touch $@

$(VENV)/.stamp-train: pyproject.toml constraints.txt | $(VENV)/.stamp-torch
	$(PIP_INSTALL) --editable '.[all]'
	@touch $@

# The developer's set contains the training set, so it marks both as done.
$(VENV)/.stamp-dev: pyproject.toml constraints.txt | $(VENV)/.stamp-torch
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $(VENV)/.stamp-train $@

$(VENV)/.stamp-gpu: $(VENV)/.stamp-dev
	$(PIP_INSTALL) --editable '.[gpu]'
	@touch $@

# ray[rllib] allows one version of gymnasium, which it brings itself; everything else is pinned as everywhere.
.venv-rllib/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-rllib
	grep -v '^gymnasium==' constraints.txt >.venv-rllib/constraints.txt
	.venv-rllib/bin/python -m pip install $(PIP_OPTIONS) --constraint .venv-rllib/constraints.txt \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	.venv-rllib/bin/python -m pip install $(PIP_OPTIONS) --constraint .venv-rllib/constraints.txt --editable '.[examples]' 'ray[rllib]'
	@touch $@

# The report is looked at in a real browser. Where a package of the system can bring one it does; elsewhere those tests are
# skipped, and say so.
$(VENV)/.stamp-browser: | $(VENV)/.stamp-venv
	@if command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing chromium, for the tests of the report's page: a minute or two"; apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	else echo "No chromium found: install it, and the tests of the report's page run too."; exit 0; fi; touch $@
