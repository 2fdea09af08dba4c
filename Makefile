# Every target makes .venv by itself. PYTHON chooses the interpreter (3.10 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint format docs clean

# The demo runs in its own environment, without torch.
demo: .venv-demo/installed
	.venv-demo/bin/bakit demo

# One process a core. The tests of a file stay together: they share slow fixtures.
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

# The generated pages; tests fail when they are out of date.
docs: $(VENV)/installed
	$(BIN)/python docs/make_architecture.py
	$(BIN)/python docs/make_api.py
	$(BIN)/python docs/make_evidence.py

# A fixed build of torch: another release may install gigabytes of CUDA libraries.
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
