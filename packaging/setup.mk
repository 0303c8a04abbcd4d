# Set-up of a fresh Debian 12 machine. One stamp for each kind, remade when its list changes.

APT_BUILD := clang-19 clang-format-19 bpftool libbpf1 libbpf-dev libelf-dev zlib1g-dev pkg-config gcc libc6-dev make git \
	ca-certificates python3 python3-venv
APT_RUN := iproute2 iptables nftables e2fsprogs util-linux procps acl attr
APT_TEST := postgresql-15 mariadb-server-core mariadb-client-core xfsprogs nginx apache2-bin dnsmasq-base haproxy wrk
SETUP_STAMPS := $(BUILD)/setup/apt $(BUILD)/setup/rust $(BUILD)/setup/venv

$(BUILD)/setup/apt: packaging/setup.mk packaging/apt-setup
	@mkdir -p $(@D)
	@packaging/apt-setup $(APT_BUILD) $(APT_RUN) $(APT_TEST)
	@touch $@

# The Rust toolchain that is there (1.85 or newer), else Debian's rustc-web and cargo-web.
$(BUILD)/setup/rust: packaging/rust-setup | $(BUILD)/setup/apt
	@mkdir -p $(@D)
	@packaging/rust-setup
	@touch $@

$(BUILD)/setup/venv: requirements.lock pyproject.toml | $(BUILD)/setup/apt
	@mkdir -p $(@D)
	@echo "== Python: $(VENV) with the versions of requirements.lock"
	@test -x $(PYTHON) || $(PYTHON_SYSTEM) -m venv $(VENV)
	@$(PYTHON) -m pip install --quiet --require-hashes -r requirements.lock
	@$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@
