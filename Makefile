# Two commands for a fresh machine (Python 3.11 or newer, make): each makes .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-lens check docs clean

demo: $(VENV)/.installed  ## train four seeds on sorting at most 20 numbers, test them on 50
	$(BIN)/lab train --task sort --train-len 20 --test-len 50 --steps 2500 --seeds 0:4

test: $(VENV)/.installed-dev check  ## every default test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: $(VENV)/.installed-dev  ## the tests that take longer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

test-lens: build/lens-2/.installed build/lens-3/.installed build/lens-4/.installed  ## TransformerLens 2, 3, 4, each in its own environment
	for v in 2 3 4; do \
	  OMP_NUM_THREADS=1 build/lens-$$v/bin/python -m pytest -q tests/probes/test_hooked.py genlab/models/lens.py || exit 1; \
	done

check: $(VENV)/.installed-dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: $(VENV)/.installed-dev  ## rebuild what docs/ has of the code, and build/site; fails on a dead link
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.architecture_page
	OMP_NUM_THREADS=1 $(BIN)/python docs/make_site.py

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"genlab needs Python 3.11 or newer, this is {v[0]}.{v[1]}; try: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@

build/lens-%/.installed: pyproject.toml
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q -e '.[lens]' 'transformer-lens==$*.*' 'pyarrow<26' pytest
	touch $@

clean:
	rm -rf $(VENV) build
