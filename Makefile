# make try [FOLDER=~/some/folder]   mirror a folder and search it (default: examples/handbook)
# make standin ARGS='zhipu'         serve a stand-in for a service, to try kbsync without an account
# make test                         lint and the quick tests, in under four minutes
# make test-rest KBSYNC_SEED=…      all other tests, and the size of an installation
# make torture [TIME=10m] [SEED=1]  crashes, lies, floods and hostile input until the time is over
# make servers [ONLY=name]        the targets at real servers, MCP by its own tools; installs them
# make peers                        kbsync compared with other tools, which it installs; prints a table
# make release                      sdist, wheel and list of packages in dist/, built twice and checked
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
.PHONY: help setup try standin test test-rest servers torture peers mistakes lint bench release

# For make an unquoted space ends the name of a target.
empty :=
DONE := $(subst $(empty) $(empty),\ ,$(VENV))/.kbsync

help:
	@sed -n '/^VENV ?=/q; s/^# \{0,1\}//p' Makefile

setup: $(if $(filter no,$(SETUP)),,$(DONE)-dev)

try: $(if $(filter no,$(SETUP)),,$(DONE))
	@tools/try.sh

# `exec`, so that what ends make ends the server.
standin: $(if $(filter no,$(SETUP)),,$(DONE)-standin)
	@exec "$(VENV)/bin/python" -m kbsync_standin $(ARGS)

test: setup
	@tools/check.sh quick

test-rest: setup
	@tools/check.sh size rest

lint: setup
	@tools/check.sh lint

# Their environments are kept in ~/.cache/kbsync-servers, or in $KBSYNC_SERVERS_DIR.
servers: setup
	@"$(VENV)/bin/python" -m tests.servers $(ONLY)

# Their environments are kept in ~/.cache/kbsync-peers, or in $KBSYNC_PEERS_DIR.
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

# An environment made for tests serves to try as well.
$(DONE): pyproject.toml
	@tools/setup.sh .

$(DONE)-standin: pyproject.toml standin/pyproject.toml
	@tools/setup.sh . standin

$(DONE)-dev: pyproject.toml standin/pyproject.toml
	@tools/setup.sh '.[dev]'
