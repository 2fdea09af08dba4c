# Every target makes .venv by itself. PYTHON chooses the interpreter (3.10 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint format clean

# The demo runs in an environment of its own, without torch: what an edge engineer has.
demo: .venv-demo/installed
	.venv-demo/bin/bakit demo

# A process a core: the tests of a file stay together, since they share what is slow to make.
test: $(VENV)/installed
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One build of torch for everybody: another release may bring gigabytes of CUDA libraries.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "torch==2.13.0" --editable ".[dev]"
	touch $@

.venv-demo/installed: pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install --quiet --editable ".[export]"
	touch $@

clean:
	rm -rf $(VENV) .venv-demo build *.egg-info bakit-demo
