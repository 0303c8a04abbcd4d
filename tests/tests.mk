# The test targets, in the order in which `make test` runs them.

PYTEST := $(PYTHON) -m pytest -q
.PHONY: test test-rust test-unit test-sim test-bpf test-fs test-mirror test-farm
test: test-rust test-unit test-sim test-bpf test-fs test-mirror test-farm ## everything, in a fixed order

test-rust: build ## the replicator's own tests
	@cargo test --workspace --locked --quiet --features telamon-replicator/fault-points

test-unit: build ## pure cores and parsers
	@$(PYTEST) tests/unit

test-sim: build ## role machine and view change in a hostile simulated world
	@$(PYTEST) tests/sim

test-bpf: build ## eBPF programs on this kernel
	@$(PYTEST) tests/bpf

test-fs: build ## the mount against plain ext4
	@$(PYTEST) tests/fs tests/kernels

test-mirror: build ## two hosts: failover, oracles, hostile input, full disk
	@$(PYTEST) tests/lab --ignore-glob='*/test_farm_*.py'

test-farm: build ## the farm filter on real packets, then farms of several hosts on real traffic
	@$(PYTEST) tests/farm
	@$(PYTEST) tests/lab/test_farm_*.py

.PHONY: test-kernels
test-kernels: build ## in guests with Debian's kernels 6.1 and 6.12 (several minutes each; not part of `make test`)
	@tests/kernels/run 6.1
	@tests/kernels/run 6.12

.PHONY: test-fresh
test-fresh: ## `make demo` from a clean clone in a bare Debian 12 tree (not part of `make test`)
	@tests/fresh/run demo
