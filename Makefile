# One target for each frequent task.  A fresh machine needs Python 3.11 or newer, make and a package index.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO_PORT ?= 8080

.DEFAULT_GOAL := help
.PHONY: help venv demo test trial peers soak lint types bench docs fuzz clean

help:
	@echo 'make demo    run an edge, an agent and a small site, until Ctrl-C (DEMO_PORT=$(DEMO_PORT))'
	@echo 'make test    run the whole suite; genuine Go peers too, where Go is found'
	@echo 'make trial   run the tests of the floors with trial'
	@echo 'make peers   run only the tests with genuine peers; fails without Go'
	@echo 'make soak    run the suite in full sizes; takes long'
	@echo 'make fuzz    fuzz every decoder for a minute'
	@echo 'make lint    run ruff        make types   run mypy'
	@echo 'make docs    build the documentation with Sphinx and pydoctor, into docs/_build/'
	@echo 'make bench   compare with genuine Go programs (QUICK, ONLY, PEERS, JSON ...: docs/howto/benchmarks.md)'
	@echo 'make venv    make $(VENV) with the package and its tools'
	@echo 'make clean   remove what these targets made'

venv: $(INSTALLED)

$(INSTALLED): setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo 'tunnelstack needs Python 3.11 or newer; none was found (name one: make PYTHON=/path/to/python3)' >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	exec $(BIN)/tunnelstack demo --port $(DEMO_PORT)

# TESTS and FLOORS may be given, to run only some: make test TESTS=tests/session
TESTS := tests
FLOORS := $(addprefix tests., wire model transport stream session negotiation exchange handler dialect control edge agent demo \
	commands test_endpoints test_testing)

test: $(INSTALLED)
	$(BIN)/python -m pytest -q $(TESTS)

trial: $(INSTALLED)
	$(BIN)/trial --reporter=text --temp-directory=$(BIN)/../trial $(FLOORS)

peers: $(INSTALLED)
	TUNNELSTACK_REQUIRE_PEERS=1 $(BIN)/python -m pytest -q tests/peers

soak: $(INSTALLED)
	TUNNELSTACK_REQUIRE_PEERS=1 TUNNELSTACK_SOAK=1 $(BIN)/python -m pytest -q --timeout 1800 $(TESTS)

lint: $(INSTALLED)
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

docs: $(INSTALLED)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python -m pydoctor

fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz.run $(FUZZ)

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(PEERS),--peers) $(if $(JSON),--json $(JSON)) $(if $(RESUME),--resume) $(if $(PLOT),--plot $(PLOT))

clean:
	rm -rf $(VENV) .tox .mypy_cache .ruff_cache .hypothesis _trial_temp* docs/_build build dist *.egg-info
