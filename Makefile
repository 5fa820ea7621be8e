# `make demo` and `make test` do all of their own set-up in a clean clone: a virtual environment in .venv and
# everything in it. Safe to run again; an interrupted or outdated installation is completed first.
#
# On a machine with GPUs, once: make install BUILD=gpu

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

BIN := .venv/bin
BUILD ?= $(if $(wildcard .venv/.installed-gpu),gpu,cpu)
INSTALLED := .venv/.installed-$(BUILD)

# No command here downloads from a model hub.
export HF_HUB_OFFLINE := 1
export RAY_USAGE_STATS_ENABLED := 0
# Once here, not by each of the actors that start at the same moment.
export UV_COMPILE_BYTECODE := 1
# Where this is set, each of the many processes would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint install clean

demo: install
	$(BIN)/scar-ray train task=demo trainer.steps=120

test: install
	$(BIN)/pytest -n 2 --dist loadscope

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@[ "$(BUILD)" = cpu ] || [ "$(BUILD)" = gpu ] || { echo "BUILD=$(BUILD): use cpu or gpu" >&2; exit 1; }
	@if compgen -G '.venv/.installed-*' | grep -qv -- '-$(BUILD)$$'; then \
	    echo ".venv holds the other build of vLLM; run make clean first" >&2; exit 1; fi
	@for python in $(PYTHON) .venv/bin/python python3.11 python3.12 python3.13 python3; do \
	    if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
	        "$$python" -m venv .venv; exit; \
	    fi; \
	done; \
	echo "Python 3.11, 3.12 or 3.13 is needed; install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.10'
	@$(install_$(BUILD))
	@touch $@

# vLLM's CPU build needs the CPU build of torch, which the package index does not have. Where pip is configured
# with a folder or page that has it (find-links), uv is told; elsewhere uv finds PyTorch's own index by itself.
define install_cpu
links=$$($(BIN)/python -m pip config get global.find-links 2>/dev/null || true); \
links=$$(echo $${PIP_FIND_LINKS:-$$links} | tr ' ' ','); \
uv() { UV_FIND_LINKS=$${UV_FIND_LINKS:-$$links} $(BIN)/uv pip install --python $(BIN)/python "$$@" -e '.[cpu,dev]'; }; \
if uv --dry-run --quiet 2>/dev/null; then uv; else uv --torch-backend=cpu; fi; \
$(BIN)/python -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null || { \
    echo "libnuma.so.1 is missing, which vLLM needs on CPUs; install it (Debian, Ubuntu: apt-get install libnuma1)" >&2; \
    exit 1; }
endef

define install_gpu
$(BIN)/uv pip install --python $(BIN)/python -e '.[gpu,dev]'
endef

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find scar_ray tests -name __pycache__ -type d -exec rm -rf {} +
