# make try [FOLDER=~/some/folder]   mirror a folder and search it (default: examples/handbook)
# make standin ARGS='zhipu'         serve a stand-in for a vendor, to try kbsync without an account
# make test                         every check and every test; of long enumerations a sample
# make test-rest KBSYNC_SEED=…      what that sample left out
# make torture [TIME=10m] [SEED=1]  crashes, lies, floods and hostile input until the time is over
# make servers [ONLY=name]        the targets at real servers, MCP by its own tools; installs them
# make mistakes [ONLY=word]         mistakes made on purpose: which test notices each
#
# VENV=…    where the virtual environment lies (default: .venv)
# PYTHON=…  the Python it is made from (default: the newest of 3.14 … 3.11 that works)
# SETUP=no  take the environment as it is

VENV ?= .venv
FOLDER ?= examples/handbook
export VENV PYTHON FOLDER QUERY ONLY TIME SEED

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup try standin test test-rest servers torture mistakes lint bench

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

setup: $(if $(filter no,$(SETUP)),,$(VENV)/.kbsync-dev)

try: $(if $(filter no,$(SETUP)),,$(VENV)/.kbsync)
	@tools/try.sh

# `exec`, so that what ends make ends the server.
standin: $(if $(filter no,$(SETUP)),,$(VENV)/.kbsync-standin)
	@exec "$(VENV)/bin/python" -m kbsync_standin $(ARGS)

test: setup
	@tools/check.sh lint size tests

test-rest: setup
	@tools/check.sh rest

lint: setup
	@tools/check.sh lint

# Their environments are kept in ~/.cache/kbsync-servers, or in $KBSYNC_SERVERS_DIR.
servers: setup
	@"$(VENV)/bin/python" -m tests.servers $(ONLY)

torture: setup
	@tools/torture.sh

mistakes: setup
	@$(VENV)/bin/python -m tests.mistakes --only "$(ONLY)"

bench: setup
	@tools/bench.sh

# An environment made for tests serves to try as well.
$(VENV)/.kbsync: pyproject.toml
	@tools/setup.sh .

$(VENV)/.kbsync-standin: pyproject.toml standin/pyproject.toml
	@tools/setup.sh . standin

$(VENV)/.kbsync-dev: pyproject.toml standin/pyproject.toml
	@tools/setup.sh '.[dev]'
