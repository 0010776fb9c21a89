# The commands of this repository; `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# $(call step,what,command) tells what is done and how long it took.
define step
@echo "== $(1)"; started=$$SECONDS; $(2); echo "== $(1): $$((SECONDS - started)) s"
endef

# $(call need,program,how to get it)
define need
@command -v $(1) > /dev/null || { echo "$(1) is missing. $(2)" >&2; exit 1; }
endef

# The suites on the control plane: those that inject faults, those that measure, and all others. Most of them wait most
# of the time, so several run side by side. The one on a node needs root, an image and packages, that of upgrades a build
# of another revision, that of the clock a library, the sweep the machine alone: each has a target of its own.
suites := $(filter-out clock node sweep upgrade,$(sort $(basename $(notdir $(wildcard e2e/tests/*)))))
faults := crash faults full gates kills late outage proxy rotation stale tokens
alone := fairness
sociable := $(filter-out $(faults) $(alone),$(suites))
side_by_side := --no-print-directory --keep-going --output-sync=target --jobs=3
of_the_operator := $(sort $(basename $(notdir $(wildcard tests/*))))
unit_tests := cargo test --locked --workspace --lib --bins; \
	cargo test --locked --workspace $(of_the_operator:%=--test %); cargo test --locked --workspace --doc

# Property tests draw the same cases each time, so that a red run tells about the change and not about the draw;
# `make soak` draws others, and many more.
export PROPTEST_RNG_SEED ?= 20260

# Where each control plane leaves, at its end, which of its rights the operator has used.
export E2E_RIGHTS_USED := $(CURDIR)/target/rights-used

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "KUBEBUILDER_ASSETS (a folder of programs), or E2E_KUBECONFIG (a cluster), JAEGER_BINARY and HELM, spare building them."

.PHONY: demo
demo: prerequisites ## Show the main job on a real control plane; KEEP=1 leaves it running.
	@cargo build --locked --workspace --bins
	@cargo run --quiet --locked --package e2e --bin demo

.PHONY: test
test: prerequisites ## Check everything: format, lints, unit, property and end-to-end tests.
	$(call step,format,cargo fmt --all --check)
	$(call step,lint,cargo clippy --locked --workspace --all-targets -- -D warnings)
	$(call step,build,cargo build --locked --workspace --all-targets)
	$(call step,unit and property tests,$(unit_tests))
	$(call step,end-to-end tests,$(MAKE) $(side_by_side) $(sociable:%=suite-%))
	$(call step,end-to-end tests that need the machine alone,$(MAKE) --no-print-directory $(alone:%=suite-%))

.PHONY: faults
faults: prerequisites ## Kill, cut, freeze and starve the operator, and see that the end is the same; FULL=1: and the whole sweep.
	@cargo build --locked --workspace --all-targets
	$(call step,faults,$(MAKE) $(side_by_side) $(faults:%=suite-%))
	$(if $(FULL),@$(MAKE) --no-print-directory suite-sweep)

# Beside other work an API server with 48 scenes answers too late for the bounds. A violation tells its case, and
# `SWEEP=case make suite-sweep` plays that one again.
.PHONY: sweep
sweep: prerequisites ## Play scenarios with each fault at each call, on a machine at rest: a sample; FULL=1: all 4,200 cases.
	@cargo build --locked --workspace --all-targets
	@$(MAKE) --no-print-directory suite-sweep

node_packages := buildah conntrack containerd containernetworking-plugins iproute2 iptables nftables runc

# OPERATOR_IMAGE, an archive of an image that is there, spares building it.
.PHONY: test-node
test-node: prerequisites ## Install the chart on a real node; needs root, installs Debian packages; FULL=1: 5,000 requests in 64 MiB.
	$(call step,packages,./e2e/packages.sh $(node_packages))
	$(if $(OPERATOR_IMAGE),,$(call step,image,./deploy/image.sh))
	@cargo build --locked --workspace --bins
	@$(MAKE) --no-print-directory suite-node

.PHONY: test-clock
test-clock: prerequisites ## Set the operator's clock forward and back; needs libfaketime, which root can install.
	$(call step,packages,./e2e/packages.sh libfaketime)
	@cargo build --locked --workspace --bins
	@$(MAKE) --no-print-directory suite-clock

# The revision is built and installed as a release of its own: its program, its chart, its kinds. The rights that another
# revision has used say nothing about those of this one.
.PHONY: test-upgrade
test-upgrade: prerequisites ## Upgrade 200 distributions and roll back; FROM=git revision (default: newest tag, else commit before).
	$(call step,build of the revision before,./e2e/upgrade/build.sh target/upgrade $(FROM))
	@cargo build --locked --workspace --bins
	@E2E_UPGRADE_FROM=$(CURDIR)/target/upgrade $(MAKE) --no-print-directory suite-upgrade \
		E2E_RIGHTS_USED=$(CURDIR)/target/upgrade/rights-used

# One file or folder of e2e/tests. With --output-sync each is told when it is over, so that none is told through another.
suite-%:
	@echo "== $*"
	@cargo test --quiet --locked --workspace --test $* -- --show-output

.PHONY: rights
rights: toolchain ## Compare what the operator may do with what it did in the tests that ran since `make clean`.
	@cargo run --quiet --locked --package e2e --bin used-rights

# Each measurement adds its figures to one result, which is compared with the one that is committed. The quick run measures
# some of the same figures as the full one, once each.
bench := cargo run --quiet --locked --release --package e2e --bin bench --
last_result := docs/benchmarks/last.json
result := target/bench.json
quick := decisions 'mass --rounds 1 --steady 20' 'fanout --rounds 1 --steady 20' 'rotation --count 1000 --rounds 1' \
	'policy --rounds 1'
full := decisions 'mass --count 1000,5000,10000 --rounds 2 --steady 600' fanout 'rotation --count 1,1000,5000' policy crowd \
	'tracing --rounds 3' questions deletion

.PHONY: bench
bench: prerequisites ## Measure, and compare with the last result; FULL=1: all sizes, in an hour; BLESS=1: it is the last one then.
	@cargo build --locked --release --workspace --bins
	@rm -f $(result)
	@for what in $(if $(FULL),$(full),$(quick)); do $(bench) $$what --json $(result); done
	@$(bench) compare $(last_result) $(result)
	$(if $(BLESS),@$(bench) publish $(result))

.PHONY: fmt
fmt: toolchain ## Format the sources.
	@cargo fmt --all

.PHONY: lint
lint: toolchain ## Lint; a warning is an error.
	@cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: deny
deny: toolchain ## Check licences, versions and sources of what this depends on; ADVISORIES=1: vulnerabilities, too.
	@./.ci/deny

.PHONY: unit
unit: toolchain ## Run what needs no control plane: unit and property tests.
	@$(unit_tests)

.PHONY: soak
soak: prerequisites ## Draw other cases for the property tests, and many more; plan and make 500 edits of policies.
	@PROPTEST_RNG_SEED=$$RANDOM$$RANDOM PROPTEST_CASES=20000 cargo test --locked --test decision -- history laws explained
	@cargo build --locked --workspace --all-targets
	@EDITED_WORLDS=300 cargo test --locked --package e2e --test cli plans -- --show-output

# SECONDS is for each of the five targets.
.PHONY: fuzz
fuzz: toolchain ## Look for bytes that break the readers of names, globs, objects, folders, policies; SECONDS=60 each.
	@./.ci/fuzz $(or $(SECONDS),60)

.PHONY: mutants
mutants: toolchain ## Change the core, one expression at a time, and see that a test notices; FILE=a glob, SHARD=0/4: a part.
	@./.ci/mutants/run '$(or $(FILE),src/**)' $(SHARD)

.PHONY: e2e
e2e: prerequisites ## Run the tests on a real control plane.
	@cargo build --locked --workspace --all-targets
	@$(MAKE) $(side_by_side) $(sociable:%=suite-%)
	@$(MAKE) --no-print-directory $(alone:%=suite-%)

.PHONY: image
image: toolchain ## Build the container image and its bill of materials; IMAGE=name:tag, TARGETARCH=amd64 or arm64.
	@./deploy/image.sh

.PHONY: clean
clean: ## Remove what Cargo built; the control plane's programs stay in the user's cache.
	@cargo clean

.PHONY: toolchain
toolchain:
	$(call need,cargo,Install Rust: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh)
	$(call need,cc,Install a C compiler$(comma) for instance: apt-get install -y build-essential)

.PHONY: prerequisites
prerequisites: toolchain
ifeq ($(KUBEBUILDER_ASSETS)$(and $(E2E_KUBECONFIG),$(JAEGER_BINARY)),)
	$(call need,go,$(install_go))
endif

comma := ,
go_version = $(shell awk '$$1 == "go" { print $$2; exit }' e2e/controlplane/go.mod)
go_archive = https://go.dev/dl/go$(go_version).linux-\$$(dpkg --print-architecture).tar.gz
define install_go
Install it: curl -fsSL $(go_archive) | tar -C /usr/local -xz && export PATH=\$$PATH:/usr/local/go/bin. \
Or build nothing: set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, kube-controller-manager, kubectl and \
jaeger, or E2E_KUBECONFIG to the kubeconfig of a cluster and JAEGER_BINARY to Jaeger's all-in-one.
endef
