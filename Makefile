# Every target does its own set-up. `make` alone lists them.
SHELL := bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PY := .venv/bin/python
SPEED ?= 20
TAG ?= phoenix-orchestrator:latest
export BASE TAG BUILDER

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: setup
setup: ## make .venv as the lock files say: for work on Phoenix (1.1 GB)
	@scripts/setup

.PHONY: setup-run
setup-run: ## make .venv with what running Phoenix needs (380 MB)
	@scripts/setup run

.PHONY: demo
demo: setup-run ## release a good version and three bad ones, live (SPEED=20)
	@exec .venv/bin/phoenix demo --speed $(SPEED)

.PHONY: test
test: setup ## unit, property, integration and fault tests; a few minutes
	@$(PY) -m pytest -n 2 --dist loadfile -m "not slow and not cluster"
	echo "left out: tests on a Kubernetes API server (make test-cluster) and slow ones (make test-all)"

.PHONY: test-all
test-all: setup ## every test, slow ones too
	@$(PY) -m pytest -n 2 --dist loadfile

.PHONY: test-cluster
test-cluster: setup ## tests against a real Kubernetes API server; builds one the first time
	@$(PY) -m pytest tests/cluster

.PHONY: cluster-up
cluster-up: setup ## start a Kubernetes control plane for work by hand (ARGS=--node: with pods)
	@$(PY) -m tests.cluster up $(ARGS)

.PHONY: cluster-down
cluster-down: setup ## end it, and what killed test sessions left
	@$(PY) -m tests.cluster down

.PHONY: image
image: ## build the image (BASE=python:3.13-slim-bookworm@sha256:… TAG=phoenix-orchestrator BUILDER=podman)
	@scripts/image

.PHONY: fmt
fmt: setup ## format the code
	@.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

.PHONY: lint
lint: setup ## style, types, import rules, spelling
	@.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/codespell

.PHONY: bench
bench: setup ## every benchmark; JSON into benchmarks/results
	@$(PY) -m benchmarks

.PHONY: docs
docs: setup ## write the reference pages that are generated from code
	@scripts/docs

.PHONY: lock
lock: setup ## resolve dependencies anew (ARGS=--upgrade)
	@scripts/lock $(ARGS)

.PHONY: build
build: setup ## wheel and source archive in dist
	@.venv/bin/uv build --no-build-isolation

.PHONY: clean
clean: ## remove what the targets made
	@rm -rf .venv .cache dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
