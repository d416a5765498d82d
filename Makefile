# make try     install what is missing, and show this machine's run queues
# make test    install what the tests need, and run them all
# make help    the other targets

PYTHON := /usr/bin/python3
# The tools and their tests need root.
SUDO := $(shell [ "$$(id -u)" -eq 0 ] || echo sudo)
SCRIPTS := $(shell find tools -type f) sbin/pytools
PYTHON_SOURCES := lib tests bench man packaging $(SCRIPTS)
# The tests start tools thousands of times: what Python has compiled is kept, but not beside the sources.
PYTEST = $(SUDO) env PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX=$(CURDIR)/build/pycache $(PYTHON) -m pytest
# One more than processors: a test also waits, most often for the kernel to detach a program.
WORKERS := $(shell echo $$(($$(nproc) + 1)))
# pytest's own selection: make test TESTS='opensnoop and not json'
TESTS ?=

.PHONY: help try test lint format generated

help:
	@sed -n 's/^# \(make .*\)/\1/p' $(wildcard Makefile packaging/*.mk bench/*.mk tests/*/*.mk)

try:
	packaging/install-packages run
	$(SUDO) tools/runqlen 1 3

test:
	packaging/install-packages run test package
	$(MAKE) --no-print-directory lint
# What measures the machine as well has it alone. What fails has a second try, alone, as in the kernel
# matrix: others may use the machine, too. Both tries are printed.
ifdef TESTS
	$(PYTEST) -k '$(TESTS)'
else
	$(PYTEST) -m 'not alone' -n $(WORKERS) || $(PYTEST) -m 'not alone' --last-failed --last-failed-no-failures none
	$(PYTEST) -m alone || $(PYTEST) -m alone --last-failed --last-failed-no-failures none
endif

# make lint    check style and types
lint:
	$(PYTHON) -m flake8 $(PYTHON_SOURCES)
	$(PYTHON) -m black --quiet --check --diff $(PYTHON_SOURCES)
	$(PYTHON) -m mypy

# make format  put the code into the one form that lint accepts
format:
	$(PYTHON) -m black --quiet $(PYTHON_SOURCES)

# make generated  write what is generated: manual pages, tables of README and docs, golden C
generated:
	$(PYTHON) -B man/generate.py
	$(PYTHON) -B packaging/declared.py
	PYTOOLS_UPDATE_GOLDEN=1 $(PYTHON) -m pytest -q -k golden tests/test_template.py

include packaging/install.mk packaging/package.mk
-include bench/bench.mk
-include tests/kernels/kernels.mk
