# Every target works from a clean clone, without a terminal and without input. `make` alone explains.

PYTHON ?= python3
VENV := .venv
# Part of the stamps' names: with another PYTHON= the environment is made anew, never silently reused.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
STAMP_RUN := $(VENV)/.set-up-run-$(VERSION)
STAMP_DEV := $(VENV)/.set-up-dev-$(VERSION)
TESTED := redline checks reports flows models benchmarks tests

# Bytecode is written on first use: without it every start of Redline takes two to three seconds more.
unexport PYTHONDONTWRITEBYTECODE
# A foreign environment must not leak into ours.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test test-long check lint lock clean
.DELETE_ON_ERROR:

help: ## show this list
	@echo "Redline: make TARGET [PYTHON=python3.12] [ARGS=\"...\"]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-9s %s\n", $$1, $$2}'

run: $(STAMP_RUN) ## set up, then measure the pinned vLLM on this machine (ARGS goes to `redline run`)
	@status=0; $(VENV)/bin/redline run $(ARGS) || status=$$?; \
	if [ $$status -eq 6 ]; then \
		echo "make run: measured; there is no accepted baseline to compare with yet (exit code 6 of redline), which is not a pass."; \
	else exit $$status; fi

# Where tests with a real vLLM are: those of single servers, and those that measure, which hold the machine's lock.
SERVERS := tests/builds tests/deploy tests/load tests/models
MEASURING := tests/flows

test: lint ## set up, lint, the tests: those that need no vLLM, then those with a real one
	$(VENV)/bin/python -m pytest --no-vllm --numprocesses 3 $(ARGS) # many of them wait: three at a time on two cores
	@echo "with a real vLLM: those of single servers beside those that measure, which hold the machine's lock in turn"
	@$(VENV)/bin/python -m pytest -m vllm $(ARGS) $(SERVERS) & beside=$$!; \
	$(VENV)/bin/python -m pytest -m vllm $(ARGS) $(MEASURING); measured=$$?; wait $$beside && exit $$measured

test-long: lint ## set up, lint, the tests of minutes that `make test` leaves out: every architecture, MLPerf's own driver
	$(VENV)/bin/python -m pytest --long -m long $(ARGS) $(MEASURING)

check: lint ## set up, lint, then the fast tests, two at a time: under two minutes
	$(VENV)/bin/python -m pytest --no-vllm -m "not slow" --numprocesses 2 $(ARGS)

lint: $(STAMP_DEV) ## format, lint, types, import law, workflows
	$(VENV)/bin/ruff format --check $(TESTED)
	$(VENV)/bin/ruff check $(TESTED)
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/zizmor --offline --quiet --no-progress --persona pedantic .github action.yml
	$(VENV)/bin/actionlint

# Markers in, no index addresses out: a lock installs from whatever mirror the machine is set up for.
COMPILE = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header

lock: $(STAMP_DEV) ## resolve the locks anew, upwards, within pyproject.toml
	$(COMPILE) pyproject.toml --group build --output-file requirements.lock
	$(COMPILE) pyproject.toml --group build --group dev --constraints requirements.lock --output-file requirements-dev.lock
	awk '/^uv==/ {found = 1} found; found && !/\\$$/ {exit}' requirements.lock > requirements-uv.lock

clean: ## delete the environment and caches; measurements under .redline stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find $(TESTED) -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment ------------------------------------------------------------------------------------------

# $(call set_up,LOCK). pip brings only uv, by hash; uv installs the rest, by hash, eight to fifteen times faster
# than pip (docs/decisions/0006-dependencies.md). uv does not read pip's configuration, so where only that knows
# the mirror, pip installs the same lock. Last, the checkout itself, editable, with the backend from the lock.
define set_up
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Redline needs Python 3.11 or newer; '$(PYTHON)' is $(or $(VERSION),not found)." >&2; \
		echo "Next step: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "Python $(VERSION) at '$(PYTHON)' has no venv module." >&2; \
		echo "Next step: install it (Debian, Ubuntu: apt-get install python$(VERSION)-venv), then make again" >&2; exit 1; }
	@[ "`$(VENV)/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null`" = "$(VERSION)" ] || { \
		echo "Making $(VENV) with Python $(VERSION)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing $(1) into $(VENV)"
	@$(VENV)/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-uv.lock
	@$(VENV)/bin/uv pip sync --quiet --require-hashes --python $(VENV)/bin/python $(1) || { \
		echo "uv could not install the lock; trying pip, which reads its own configuration (about a minute)"; \
		$(VENV)/bin/python -m pip install --quiet --no-deps --require-hashes -r $(1); }
	@$(VENV)/bin/python -m pip install --quiet --no-deps --no-index --no-build-isolation --editable .
endef

$(STAMP_DEV): pyproject.toml requirements-uv.lock requirements-dev.lock
	$(call set_up,requirements-dev.lock)
	@touch $(STAMP_RUN) $@

# Where the development tools are, they stay: the development lock holds the run-time lock whole.
$(STAMP_RUN): pyproject.toml requirements-uv.lock requirements.lock
	$(call set_up,$(if $(wildcard $(STAMP_DEV)),requirements-dev.lock,requirements.lock))
	@touch $@
