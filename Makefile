# Needs python3 (3.11 or newer, with venv and pip) and make; all else goes into .venv. On Windows see README.md.
# What is installed leaves a stamp in .venv, so that a second run installs nothing; a changed pyproject.toml does.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo test docs bench peers
.NOTPARALLEL:

help:
	@echo "make demo   train a small network on handwritten digits"
	@echo "make test   lint, check types, run the tests"
	@echo "make docs   build the documentation"
	@echo "make bench  run every benchmark once"
	@echo "make peers  time numtape against other libraries, in turn"

demo: $(VENV)/.installed-examples
	$(BIN)/python examples/digits.py

test: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pytest

docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build --fresh-env --fail-on-warning --quiet -d docs/_build/doctrees docs docs/_build/html
	@echo "$(CURDIR)/docs/_build/html/index.html"

bench: $(VENV)/.installed-bench
	cd asv_bench && ../$(BIN)/asv machine --yes
	cd asv_bench && ../$(BIN)/asv run --python=same --quick --dry-run --show-stderr

peers:
	$(PYTHON) asv_bench/peers/run.py

$(VENV)/.installed-%: pyproject.toml $(VENV)/.created
	@echo "Installing numtape[$*] and what it needs into $(VENV)"
	@$(PIP) install --editable '.[$*]'
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("numtape needs Python 3.11 or newer, \
	and $(PYTHON) is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12 ...")'
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@
