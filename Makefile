# Telamon: set-up, build, demo, tests, benchmarks. `make help` lists the targets.
#
# Every target does its own set-up; stamps in build/ make a second call quick.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

BUILD := build
VENV := .venv
PYTHON := $(VENV)/bin/python
BIN := target/release
# Debian's python3 first: a fresh machine has no other.
PYTHON_SYSTEM ?= $(firstword $(wildcard /usr/bin/python3) python3)
CLANG ?= clang-19
export PATH := $(CURDIR)/$(VENV)/bin:$(CURDIR)/$(BIN):$(HOME)/.cargo/bin:$(PATH)

include packaging/setup.mk

BPF_SOURCES := $(wildcard ebpf/*.bpf.c)
BPF_OBJECTS := $(BPF_SOURCES:ebpf/%.bpf.c=$(BUILD)/ebpf/%.bpf.o)
BPF_FLAGS := -target bpf -mcpu=v3 -g -O2 -Wall -Wextra -Wno-unused-parameter -Werror \
	-I/usr/include/$(shell uname -m)-linux-gnu

.PHONY: help setup build demo demo-farm bench lint clean
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18 | sort

setup: $(SETUP_STAMPS) ## install what building and testing need (apt, venv, cargo)

build: setup $(BPF_OBJECTS) replicator ## eBPF objects, the replicator, the Python package

$(BUILD)/ebpf/%.bpf.o: ebpf/%.bpf.c $(wildcard ebpf/*.h) | $(SETUP_STAMPS)
	@mkdir -p $(@D)
	@echo "== eBPF: $<"
	$(CLANG) $(BPF_FLAGS) -c $< -o $@

.PHONY: replicator
replicator: | $(SETUP_STAMPS)
	@cargo build --release --locked --quiet

demo: build ## two nodes and a client: PostgreSQL survives the loss of its node
	@$(VENV)/bin/telamon lab demo

demo-farm: build ## three nodes behind one address: no connection breaks on a node that lives
	@$(VENV)/bin/telamon lab demo-farm

bench: build ## ratios against native; ONLY=name runs one; writes bench/latest.json
	@$(PYTHON) -m bench $(if $(ONLY),--only $(ONLY))

include tests/tests.mk

lint: setup ## ruff, mypy, clippy, rustfmt, clang-format
	@ruff format --check . && ruff check . && mypy
	@cargo fmt --check && cargo clippy --workspace --all-targets --locked --quiet
	@clang-format-19 --dry-run --Werror ebpf/*.c ebpf/*.h

clean: ## remove what was built (the venv and the apt packages stay)
	rm -rf $(BUILD) target
