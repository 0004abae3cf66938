# make try [FOLDER=~/some/folder]   mirror a folder and search it (default: examples/handbook)
# make standin ARGS='zhipu'         simulate a service, to try kbsync without an account
# make test                         run lint and the quick tests, in under four minutes
# make test-rest KBSYNC_SEED=…      run all other tests, and measure the size of an installation
# make torture [TIME=10m] [SEED=1]  test with crashes, wrong responses, overload and hostile input, for TIME
# make servers [ONLY=name]          install real servers and MCP's own tools, and run tests against them
# make peers                        install other tools, and print a table that compares kbsync with them
# make release                      build sdist, wheel and list of packages in dist/, twice, and check them
# make mistakes [ONLY=word]         insert bugs on purpose, and show which test catches each
# make bench [ONLY=scan]            run all benchmarks that need no corpus, or one of them
#
# VENV=…    the virtual environment (default: .venv)
# PYTHON=…  the Python to create it with (default: the newest of 3.14 … 3.11 that works)
# SETUP=no  don't install or update the environment

VENV ?= .venv
FOLDER ?= examples/handbook
export VENV PYTHON FOLDER QUERY ONLY TIME SEED
unexport PYTHONHOME

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup try standin test test-rest servers torture peers mistakes lint bench release

# Escape spaces, which would end the name of a make target.
empty :=
DONE := $(subst $(empty) $(empty),\ ,$(VENV))/.kbsync

help:
	@sed -n '/^VENV ?=/q; s/^# \{0,1\}//p' Makefile

setup: $(if $(filter no,$(SETUP)),,$(DONE)-dev)

try: $(if $(filter no,$(SETUP)),,$(DONE))
	@tools/try.sh

# `exec`, so that a signal that ends make also ends the server.
standin: $(if $(filter no,$(SETUP)),,$(DONE)-standin)
	@exec "$(VENV)/bin/python" -m kbsync_standin $(ARGS)

test: setup
	@tools/check.sh quick

test-rest: setup
	@tools/check.sh size rest

lint: setup
	@tools/check.sh lint

# Keeps their environments in ~/.cache/kbsync-servers, or in $KBSYNC_SERVERS_DIR.
servers: setup
	@"$(VENV)/bin/python" -m tests.servers $(ONLY)

# Keeps their environments in ~/.cache/kbsync-peers, or in $KBSYNC_PEERS_DIR.
peers: setup
	@"$(VENV)/bin/python" benchmarks/peers/run.py

torture: setup
	@tools/torture.sh

mistakes: setup
	@"$(VENV)/bin/python" -m tests.mistakes --only "$(ONLY)"

release: setup
	@"$(VENV)/bin/python" tools/release.py

bench: setup
	@tools/bench.sh

# `make try` also works in an environment installed for tests.
$(DONE): pyproject.toml
	@tools/setup.sh .

$(DONE)-standin: pyproject.toml standin/pyproject.toml
	@tools/setup.sh . standin

$(DONE)-dev: pyproject.toml standin/pyproject.toml
	@tools/setup.sh '.[dev]'
