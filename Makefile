# Two commands matter: `make run` and `make test`. Each fetches what it needs.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: help run test lint breaking fmt build weights tools python-client bench bench-wordnet clean

BUF := tools/node_modules/.bin/buf
VENV := .venv
CARGO := cargo

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: weights ## start the store (:3000) and the embedding service (:8000)
	$(CARGO) run --release --locked

build: ## build both binaries
	$(CARGO) build --release --locked --workspace --bins

weights: build ## fetch and verify the weights of the default model
	@scripts/fetch-weights

test: weights ## run every test, with the real model and a generated Python client
	$(CARGO) test --release --locked --workspace
	$(MAKE) python-client

python-client: build $(VENV)/ready ## generate a Python client from proto/ and run it against a server
	$(VENV)/bin/python tests/python_client/run.py

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

bench: ## measure the kernels
	$(CARGO) bench --locked --bench kernels

bench-wordnet: weights $(VENV)/ready ## the main job at full size; DATA is a folder with the WordNet files
	$(VENV)/bin/pip install --quiet --disable-pip-version-check numpy
	$(VENV)/bin/python benches/wordnet.py $(or $(DATA),$(error say where the files are: make bench-wordnet DATA=folder))

tools: tools/node_modules/.bin/buf

# `npm ci` wants every platform's package to be in the registry; `install` takes what this machine needs.
tools/node_modules/.bin/buf: tools/package-lock.json
	cd tools && npm install --no-save --no-fund --no-audit
	touch $@

$(VENV)/ready: tests/python_client/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

clean: ## remove what was built; data and weights stay
	$(CARGO) clean
	rm -rf $(VENV) tools/node_modules
