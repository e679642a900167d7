# Two commands matter: `make run` and `make test`. Each fetches what it needs.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: help run test torture fuzz fuzz-seeds lint breaking fmt build weights tools examples python-client bench bench-wordnet bench-peers clean

BUF := tools/node_modules/.bin/buf
VENV := .venv
TYPESCRIPT := examples/typescript
CARGO := cargo

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: weights ## start the store (:3000) and the embedding service (:8000)
	$(CARGO) run --release --locked

build: ## build both binaries
	$(CARGO) build --release --locked --workspace --bins

weights: build ## fetch and verify the weights of the default model
	@scripts/fetch-weights

test: weights ## run every test, with the real model, and the clients of examples/
	$(CARGO) test --release --locked --workspace
	$(MAKE) examples

torture: build ## accidents without end: kills, power cuts, flipped bits; TORTURE_MINUTES=30, TORTURE_SEED
	$(CARGO) test --release --locked --test torture -- --ignored --nocapture torture

fuzz: ## coverage-guided fuzzing of what is read from disk; FUZZ_MINUTES=5 for each of FUZZ_TARGETS
	@scripts/fuzz

fuzz-seeds: ## add files as the engine writes them now to the corpus; `scripts/fuzz minimise` then keeps what adds coverage
	$(CARGO) test --release --locked --test fuzz -- --ignored write_seeds

examples: build tools $(VENV)/ready $(TYPESCRIPT)/dist/client.js ## run the clients of examples/ against a server
	$(VENV)/bin/python tests/examples/run.py

python-client: build $(VENV)/ready ## run the Python one alone
	$(VENV)/bin/python tests/examples/run.py python

lint: tools ## formatting, clippy, the contract
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	$(BUF) lint
	$(BUF) format --diff --exit-code

breaking: tools ## compare the contract with another revision: make breaking AGAINST='.git#branch=main'
	$(BUF) breaking --against '$(AGAINST)'

fmt: tools ## format everything
	$(CARGO) fmt --all
	$(BUF) format --write

bench: ## measure the kernels and the metadata index
	$(CARGO) bench --locked --bench kernels --bench filter

bench-wordnet: weights $(VENV)/ready ## the main job at full size; DATA is a folder with the WordNet files
	$(VENV)/bin/pip install --quiet --disable-pip-version-check numpy
	$(VENV)/bin/python benches/wordnet.py $(or $(DATA),$(error say where the files are: make bench-wordnet DATA=folder))

bench-peers: build $(VENV)/ready ## the engine beside other indexes; BASE and QUERIES are .npy files, ARGS as for peers.py
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r benches/peers/requirements.txt
	$(VENV)/bin/python benches/peers/peers.py $(ARGS) \
		$(or $(BASE),$(error say what to search in: make bench-peers BASE=base.npy QUERIES=queries.npy)) \
		$(or $(QUERIES),$(error say what to search for: make bench-peers BASE=base.npy QUERIES=queries.npy))

tools: tools/node_modules/.bin/buf

# `npm ci` wants every platform's package to be in the registry; `install` takes what this machine needs.
tools/node_modules/.bin/buf: tools/package-lock.json
	cd tools && npm install --no-save --no-fund --no-audit
	touch $@

$(TYPESCRIPT)/dist/client.js: $(TYPESCRIPT)/node_modules/ready $(wildcard $(TYPESCRIPT)/*.*) $(shell find proto -name '*.proto')
	cd $(TYPESCRIPT) && npm run --silent build

$(TYPESCRIPT)/node_modules/ready: $(TYPESCRIPT)/package-lock.json
	cd $(TYPESCRIPT) && npm install --no-save --no-fund --no-audit
	touch $@

$(VENV)/ready: examples/python/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

clean: ## remove what was built; data and weights stay
	$(CARGO) clean
	rm -rf $(VENV) tools/node_modules examples/*/generated $(TYPESCRIPT)/{node_modules,dist}
