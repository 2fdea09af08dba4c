# Every target makes .venv by itself. PYTHON chooses the interpreter (3.10 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-arm programs attack lint site format docs clean

# The demo runs in its own environment, without torch.
demo: .venv-demo/installed
	.venv-demo/bin/bakit demo

# One process a core. The tests of a file stay together: they share slow fixtures. The order of the
# files is that of tests/conftest.py: the longest first.
test: $(VENV)/installed programs
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# Bundles on an emulated Arm device, which root makes once in build/arm (docs/arm.md); hours on a busy machine.
test-arm: $(VENV)/installed
	mkdir -p build/arm
	PYTHON=$(abspath $(BIN)/python) BAKIT_ARM=build/arm $(BIN)/python -m pytest tests/arm

# Programs that some tests need; without root and apt, the tests end with a list of what was not run.
programs: $(VENV)/installed
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		$(BIN)/python -m playwright install chromium --with-deps >/dev/null 2>&1 || \
			apt-get install -qq -y --no-install-recommends chromium >/dev/null 2>&1 || true; \
		for need in sshd:openssh-server ssh:openssh-client npm:npm dcmdump:dcmtk dciodvfy:dicom3tools cc:gcc c++:g++ \
			openssl:openssl png.h:libpng-dev onnxruntime:libonnxruntime-dev; do \
			command -v $${need%%:*} >/dev/null || test -x /usr/sbin/$${need%%:*} || test -e /usr/include/$${need%%:*} || \
				apt-get install -qq -y --no-install-recommends $${need##*:} >/dev/null 2>&1 || true; \
		done; \
	fi

# At least 400 attacks, counted by area; minutes, so not a part of the tests.
attack: $(VENV)/installed
	$(BIN)/python -m tests.fuzz.attacks

lint: $(VENV)/installed site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, in build/site. A warning, such as a link to nowhere, is an error; --quiet would hide it.
site: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The generated pages and the site; tests fail when the pages are out of date.
docs: $(VENV)/installed
	$(BIN)/python docs/make_reference.py
	$(MAKE) site

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
