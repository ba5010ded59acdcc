PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check slow clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/installed  ## dehaze the photographs in examples/
	$(BIN)/difflid dehaze examples --output demo --overwrite
	$(BIN)/python scripts/before_after.py examples demo --output demo/before-after

test: $(VENV)/installed  ## format, types, tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest

slow: $(VENV)/installed  ## the tests that need gigabytes or minutes
	$(BIN)/pytest -m slow

clean:
	rm -rf $(VENV) demo
