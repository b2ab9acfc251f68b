# Two commands for a fresh machine (Python 3.11 or newer, make): each makes .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow check docs clean

demo: $(VENV)/.installed  ## train four seeds on sorting at most 20 numbers, test them on 50
	$(BIN)/lab train --task sort --train-len 20 --test-len 50 --steps 2500 --seeds 0:4

test: $(VENV)/.installed-dev check  ## every default test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: $(VENV)/.installed-dev  ## the tests that take longer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

check: $(VENV)/.installed-dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: $(VENV)/.installed-dev  ## rebuild the generated blocks of docs/architecture.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.architecture_page

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"genlab needs Python 3.11 or newer, this is {v[0]}.{v[1]}; try: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
