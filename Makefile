# Each target does its own set-up; a bare machine needs Python 3.11, make and git.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
TORCH  := 2.13.0
LOCK   := infra/locks/local-cpu.txt
READY  := $(VENV)/.ready

export HF_HUB_DISABLE_TELEMETRY = 1
export DO_NOT_TRACK = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo up down test check chaos bench proto clean

help: ## what can be done here
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(READY) ## the environment, in .venv

# The CPU build of torch first, by its exact name: a resolver would choose gigabytes of CUDA. Then the lock, as it stands.
$(READY): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "error: Python 3.11 is needed; name it with PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/python -c 'import torch; assert torch.__version__.startswith("$(TORCH)")' 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --no-deps "torch==$(TORCH)+cpu" 2>/dev/null \
	  || { echo "torch $(TORCH)+cpu: not in the package index at hand, taken from PyTorch's own"; \
	       $(BIN)/python -m pip install --quiet --no-deps "torch==$(TORCH)" --index-url https://download.pytorch.org/whl/cpu; }
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --compile-bytecode -r $(LOCK)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: $(READY) ## turn the loop once, for real; KEEP=1 leaves the stack up
	PYTHONPATH=examples/support-triage $(BIN)/python -m triage.demo $(if $(KEEP),--keep)

up: $(READY) ## start the local stack
	$(BIN)/pawl up

down: $(READY) ## stop it
	$(BIN)/pawl down

test: $(READY) ## all tests, on a real nats-server, S3 and vLLM
	$(BIN)/python -m pytest -q -m "not chaos" -n 3 --dist loadscope --no-loadscope-reorder --reruns 1

chaos: $(READY) ## kill every process at every stage of the demo
	$(BIN)/python -m pytest -q -m chaos

check: $(READY) ## style, types, import contracts, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy libs services pawl
	$(BIN)/lint-imports
	cd proto && ../$(BIN)/buf lint && ../$(BIN)/buf breaking --against promised.binpb
	$(BIN)/python -m libs.contracts.generate --check

bench: $(READY) ## every figure the README quotes
	$(BIN)/python -m bench

proto: $(READY) ## generate the gRPC stubs, and promise the contract as it stands
	cd proto && ../$(BIN)/buf breaking --against promised.binpb
	$(BIN)/python -m libs.contracts.generate
	cd proto && ../$(BIN)/buf build --exclude-source-info -o promised.binpb

clean: ## remove the environment and the local stack's state
	rm -rf $(VENV) .pawl
