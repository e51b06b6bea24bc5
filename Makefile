# `make run` tries Relume, `make test` checks it, `make serve` serves its page on the local network.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

RUN_ENV := .venv/run
TEST_ENV := .venv/test
PRESET ?= upscale
# On a machine with an NVIDIA GPU: make run RUN_EXTRAS=cuda,sample
RUN_EXTRAS ?= cpu,sample

# A shim may exist for a Python that does not: ask each whether it runs.
FIND_PYTHON := for python in $(PYTHON) python3 python3.12 python3.11; do \
	if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
		2>/dev/null; then echo "$$python"; break; fi; done

define make_environment
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
		echo "Relume needs Python 3.11 or 3.12; found: $$(python3 --version 2>&1 | head -1)." >&2; \
		echo "Install one (Debian, Ubuntu: sudo apt-get install python3.12 python3.12-venv)" >&2; \
		echo "or name it: make run PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then \
		version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "Python $$version has no venv module (Debian, Ubuntu:" \
			"sudo apt-get install python$$version-venv)" >&2; exit 1; fi; \
	echo "Setting up $(1) with $$("$$python" --version); the first time takes a few minutes."; \
	[ -x $(1)/bin/python ] || "$$python" -m venv $(1)
	@$(1)/bin/python -m pip install -qq --editable '.[$(2)]' || { \
		echo "The packages could not be installed (see above). Is a package index" \
			"reachable? Run make again once it is." >&2; exit 1; }
	@touch $@
endef

.PHONY: help run serve test test-all lock clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16
	@echo "  make run IN=clip.mp4 [OUT=better.mp4] [PRESET=upscale]   enhances your own file"

run: $(RUN_ENV)/.ready ## Enhance a generated sample clip, or your own with IN=...
	@mkdir -p out
ifeq ($(strip $(IN)),)
	@echo "Generating a sample clip: moving photographs, noise, low bitrate, speech-like audio."
	@$(RUN_ENV)/bin/python -m benchmarks.sample_clip out/sample.mp4
	@$(RUN_ENV)/bin/relume enhance out/sample.mp4 --preset '$(PRESET)' \
		--report out/report.json $(COMPARE) --overwrite
else
	@rm -f out/report.json out/compare.png
	@$(RUN_ENV)/bin/relume enhance '$(IN)' $(if $(strip $(OUT)),--output '$(OUT)') \
		--preset '$(PRESET)' --report out/report.json $(COMPARE)
endif

# Presets and files without video have no frames to compare.
COMPARE = $(if $(filter sound-only speech dialogue-for-video music-safe,$(PRESET))$(filter %.wav %.flac %.mp3 %.m4a %.ogg %.opus,$(IN)),,\
	--compare out/compare.png)

serve: $(RUN_ENV)/.ready ## Serve the page on the LAN; DATA=... sets the data directory
	@$(RUN_ENV)/bin/relume serve $(if $(strip $(DATA)),--data '$(DATA)')

test: $(TEST_ENV)/.ready browser ## Check style, types, layers and behaviour
	$(TEST_ENV)/bin/ruff check .
	$(TEST_ENV)/bin/ruff format --check .
	$(TEST_ENV)/bin/mypy
	$(TEST_ENV)/bin/lint-imports
	$(TEST_ENV)/bin/pytest -m 'not slow' -n 2 --dist loadgroup

test-all: $(TEST_ENV)/.ready browser ## Run every test, including those that take minutes
	$(TEST_ENV)/bin/pytest

lock: ## Pin the packages of the server with their hashes (requirements.lock); needs uv
	uv pip compile pyproject.toml --extra cpu --universal --python-version 3.11 --generate-hashes --upgrade \
		--custom-compile-command 'make lock' --quiet --output-file requirements.lock

clean: ## Remove the environments, caches and what `make run` made
	rm -rf .venv out build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN_ENV)/.ready: pyproject.toml
	$(call make_environment,$(RUN_ENV),$(RUN_EXTRAS))
	@echo "Compiling the kernels, once."
	@$(RUN_ENV)/bin/python -m kernels

$(TEST_ENV)/.ready: pyproject.toml | compiler
	$(call make_environment,$(TEST_ENV),dev)

.PHONY: compiler
compiler:
	@if [ ! -e $(TEST_ENV)/.ready ] && ! command -v cc >/dev/null; then \
		echo "The tests build the pesq package, which needs a C compiler (Debian, Ubuntu:" \
			"sudo apt-get install build-essential python3-dev)" >&2; exit 1; fi

# The tests of the page need a real browser. Without the right to install one they are skipped, and say so.
.PHONY: browser
browser:
	@if ! command -v chromium >/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing Chromium, once."; \
			{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qqy chromium >/dev/null; } \
				|| echo "Chromium could not be installed: the tests of the page are skipped." >&2; \
		else echo "The page is tested with Chromium only where it is installed (Debian, Ubuntu:" \
			"sudo apt-get install chromium)." >&2; fi; fi
