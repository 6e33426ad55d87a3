# What people and CI run; `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# Seconds that each fuzz target runs.
SECONDS ?= 60
# Which comparison `make compare` makes, and more arguments for it.
SCENARIO ?= fan-out
MORE ?=
# Arguments after `headwater standalone` for `make run`.
ARGS ?=

ROOT := $(CURDIR)
FUZZ_DIR := --fuzz-dir common/fuzz
TARGET := $(or $(CARGO_TARGET_DIR),$(ROOT)/target)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Build and run a standalone node, data in ./data
	$(CARGO) run --release -p headwater -- standalone --data data --rtmfp 1935 $(ARGS)

.PHONY: build
build: ## Build what operators install, into target/dist
	$(CARGO) build --profile dist -p headwater

.PHONY: test
test: tools-all lint docs check doctest fuzz-smoke ## Everything that CI checks
	@echo
	@echo "format, lints, documentation, dependencies, doc tests and fuzz targets are fine; tests:"
	@sed 's/\x1b\[[0-9;]*m//g' "$(TARGET)/nextest.log" | grep -o '[0-9]* tests\? run: .*' \
		| sed -E '/failed/!s/ passed/ passed, 0 failed/' | tail -n 1

.PHONY: check
# Programs that the tests start, as the tools target installs them.
check: export HEADWATER_TEST_NODE_MODULES := $(ROOT)/.test-tools/node/node_modules
check: export HEADWATER_TEST_PYTHON := $(ROOT)/.test-tools/python/bin/python
check: ## The tests alone (FILTER='package(headwater-rtmp)' for a part)
	@mkdir -p "$(TARGET)"
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --workspace --no-fail-fast $(if $(FILTER),-E '$(FILTER)') 2>&1 | tee "$(TARGET)/nextest.log"; \
	else \
		echo "cargo-nextest is not installed: using cargo test, one test at a time"; \
		$(CARGO) test --workspace --no-fail-fast --all-targets -- --test-threads 1 2>&1 | tee "$(TARGET)/nextest.log"; \
	fi

.PHONY: doctest
doctest: ## The examples in the documentation
	$(CARGO) test --workspace --doc --quiet

.PHONY: lint
lint: ## Format, lints, licences and banned dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		echo "$(CARGO) deny check bans licenses sources"; \
		$(CARGO) deny --log-level error check bans licenses sources; \
	elif [[ "$${CI:-}" == true || "$${HEADWATER_REQUIRE_TOOLS:-}" == 1 ]]; then \
		echo "cargo-deny is not installed, and nothing may be skipped here"; exit 1; \
	else \
		echo "skipped: cargo-deny is not installed (make tools-all)"; \
	fi

.PHONY: docs
docs: ## Documentation of all crates, into target/doc
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet

.PHONY: bench
bench: ## Latency and fan-out of a cluster on this machine, release build
	$(CARGO) build --release -p headwater -p headwater-loadtest
	@deploy/bench.sh "$(TARGET)/release"

.PHONY: compare
compare: ## Run a scenario of loadtest/scenarios against its servers (SCENARIO=fan-out, MORE='--rounds 1')
	$(CARGO) build --profile dist -p headwater -p headwater-loadtest
	"$(TARGET)/dist/headwater-loadtest" compare loadtest/scenarios/$(SCENARIO).toml --html "$(TARGET)/$(SCENARIO).html" $(MORE)
	@echo "charts: $(TARGET)/$(SCENARIO).html"

.PHONY: fuzz
fuzz: ## Run every fuzz target for SECONDS (60) each; TARGETS='amf0 flv' for some
	@command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is not installed (make tools-all)"; exit 1; }
	@# The sanitizers are unstable options; the pinned compiler takes them so, and stays the one compiler.
	@export RUSTC_BOOTSTRAP=1; \
	for target in $(or $(TARGETS),$$($(CARGO) fuzz list $(FUZZ_DIR))); do \
		echo "== $$target, $(SECONDS) s"; \
		corpus="common/fuzz/corpus/$$target"; mkdir -p "$$corpus"; \
		seeds="common/fuzz/seeds/$$target"; [[ -d "$$seeds" ]] || seeds=; \
		$(CARGO) fuzz run $(FUZZ_DIR) --features libfuzzer "$$target" "$$corpus" $$seeds -- \
			-max_total_time=$(SECONDS) -max_len=65536 -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1; \
	done

.PHONY: fuzz-smoke
fuzz-smoke: ## Build every fuzz target and run it for a few seconds
	@if command -v cargo-fuzz >/dev/null; then \
		$(MAKE) --no-print-directory fuzz SECONDS=4; \
	elif [[ "$${CI:-}" == true || "$${HEADWATER_REQUIRE_TOOLS:-}" == 1 ]]; then \
		echo "cargo-fuzz is not installed, and nothing may be skipped here"; exit 1; \
	else \
		echo "skipped: cargo-fuzz is not installed (make tools-all)"; \
	fi

.PHONY: tools
tools: ## Install the programs that the tests talk to
	@deploy/tests/tools/install.sh

.PHONY: tools-all
tools-all: ## The same, and cargo-deny and cargo-fuzz
	@HEADWATER_TOOLS=all deploy/tests/tools/install.sh

.PHONY: clean
clean: ## Remove what was built and installed here; ./data stays
	$(CARGO) clean
	rm -rf .test-tools common/fuzz/target common/fuzz/artifacts
