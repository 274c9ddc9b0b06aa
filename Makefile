# What a person types. `make help` lists it.

CARGO ?= cargo
# Programs the Lab and the demo start, and the Debian and Fedora packages they come in.
PROGRAMS := iptables-save iptables-legacy-save iptables-nft-save ebtables ip setpriv ethtool \
  ovs-vswitchd ovsdb-server ovs-vsctl ovs-ofctl
APT := iptables ebtables iproute2 util-linux ethtool openvswitch-switch postgresql
DNF := iptables-nft iptables-legacy ebtables-nft iproute util-linux ethtool openvswitch postgresql-server
CARGO_FUZZ := 0.13.2
PLUGIN_TARGET := x86_64-unknown-linux-gnu
PLUGIN := target/$(PLUGIN_TARGET)/dom0/drawbridge-dom0

.PHONY: help demo test bench soak fuzz-api lint plugin man build deps root

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort

demo: root deps build ## A mock pool of two hosts, a sample policy, every lifecycle step, real packets; one table (BACKEND=openvswitch)
	@target/debug/demo $(if $(BACKEND),--backend $(BACKEND))

# The Lab's tests wait for other processes half of the time.
test: export RUST_TEST_THREADS ?= $(shell n=$$(nproc); echo $$((n + n / 2)))
test: root deps build plugin ## Everything: unit and property tests, the Lab with real packets
	DRAWBRIDGE_DOM0_PROGRAM=$(CURDIR)/$(PLUGIN) $(CARGO) test --workspace --no-fail-fast

bench: root deps ## Cost against the bare programs, as ratios in one run
	$(CARGO) build --release --workspace
	$(MAKE) plugin
	target/release/bench --plugin $(PLUGIN)

# Finds of the fuzzers stay in target/fuzz and are tried again by the next run; the corpus in the repository grows by hand.
soak: root deps build plugin ## The long versions: every fuzz target for a minute, ten million decisions, hours in the Lab
	$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz --version $(CARGO_FUZZ)
	@set -e; for target in $$($(CARGO) fuzz list --fuzz-dir tests/fuzz); do \
	  echo "fuzzing $$target"; mkdir -p target/fuzz/$$target; \
	  $(CARGO) fuzz run --fuzz-dir tests/fuzz --sanitizer none $$target target/fuzz/$$target tests/fuzz/corpus/$$target -- \
	    -max_total_time=60 -dict=tests/fuzz/words.dict -max_len=4096 -timeout=10 -verbosity=0 -print_final_stats=1; \
	done
	$(CARGO) test --release -p ruleset --features soak
	DRAWBRIDGE_DOM0_PROGRAM=$(CURDIR)/$(PLUGIN) $(CARGO) test -p e2e --features soak --test lab -- \
	  endurance:: replay:: cases::events:: daemon:: migration::faults::

# The API alone, before a fake daemon. What the schema cannot say (positive_data_acceptance) is not asked.
API := 127.0.0.1:18123
API_CHECKS := not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,$\
  response_schema_conformance,negative_data_rejection,unsupported_method,use_after_free,ensure_resource_availability
fuzz-api: ## Requests made up from the API's own OpenAPI document: no 5xx, no hang
	$(CARGO) build -p api --example fuzzed
	test -x target/schemathesis/bin/schemathesis || \
	  { python3 -m venv target/schemathesis && target/schemathesis/bin/pip install -q schemathesis==4.32.*; }
	target/debug/examples/fuzzed $(API) & daemon=$$!; trap "kill $$daemon" EXIT; sleep 2; \
	target/schemathesis/bin/schemathesis run http://$(API)/v1/openapi.json --checks $(API_CHECKS) \
	  --max-examples 60 --request-timeout 10

lint: ## Formatting, clippy and documentation, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

plugin: ## The static executable for dom0
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --profile dom0 -p dom0-plugin --target $(PLUGIN_TARGET)
	@if readelf -lW $(PLUGIN) | grep -q INTERP; then echo "$(PLUGIN) is not static" >&2; exit 1; fi
	@echo "$(PLUGIN): static, $$(stat -c %s $(PLUGIN)) bytes"

man: ## Manual pages and shell completions, made from the program, into target/man and target/completions
	$(CARGO) build -p drawbridge
	rm -rf target/man target/completions && mkdir -p target/man target/completions
	target/debug/drawbridge man target/man
	target/debug/drawbridge completions bash >target/completions/drawbridge
	target/debug/drawbridge completions zsh >target/completions/_drawbridge
	target/debug/drawbridge completions fish >target/completions/drawbridge.fish

build:
	$(CARGO) build --workspace --bins

root:
	@if [ "$$(id -u)" != 0 ]; then \
	  echo "This makes network namespaces and needs root: run 'sudo -E make $(MAKECMDGOALS)'." >&2; exit 1; fi

deps:
	@missing=; for p in $(PROGRAMS); do command -v $$p >/dev/null || missing="$$missing $$p"; done; \
	PATH="$$PATH:$$(echo /usr/lib/postgresql/*/bin | tr ' ' :)"; command -v initdb >/dev/null || missing="$$missing initdb"; \
	if [ -n "$$missing" ]; then \
	  echo "Missing:$$missing"; \
	  if command -v apt-get >/dev/null; then \
	    echo "Installing with apt: $(APT)"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(APT) >/dev/null; \
	    PATH="$$PATH:$$(echo /usr/lib/postgresql/*/bin | tr ' ' :)"; \
	    case "$$missing" in *ovs-vswitchd*) systemctl disable --now openvswitch-switch >/dev/null 2>&1 || true;; esac; \
	    case "$$missing" in *initdb*) systemctl disable --now postgresql >/dev/null 2>&1 || true;; esac; \
	  elif command -v dnf >/dev/null; then \
	    echo "Installing with dnf: $(DNF)"; dnf install -y -q $(DNF); \
	  else echo "Neither apt nor dnf is here: install $$missing yourself." >&2; exit 1; fi; \
	  for p in $$missing; do command -v $$p >/dev/null || { echo "$$p is still missing." >&2; exit 1; }; done; \
	fi
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs" >&2; exit 1; }
