# make demo      a real model, fine-tuned with ranks that move, in a few minutes on two cores
# make test      lint, then all tests (what decides whether a change is good)
# make test-fast the tests that take seconds
# make lint      ruff and mypy

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Bytecode is compiled when a module is first imported: most of what is installed never is.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
# Workers of the test run: each is one thread.
WORKERS ?= 2

.PHONY: demo test test-fast lint clean

demo: $(VENV)/.demo
	$(BIN)/python train.py

test: lint
	$(BIN)/python -m pytest -n $(WORKERS)

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow" tests/unit tests/parity

lint: $(VENV)/.dev
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e ".[demo]"
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e ".[dev]"
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
