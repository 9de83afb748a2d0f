# Two commands for a fresh machine: `make repro` and `make test`. Everything else is in `make help`.

PYTHON ?= python3
PORT   ?= 5000
SERVE_PORT ?= 5001
WORKERS ?= 2
MODEL  ?= models:/flowers@champion

VENV := .venv
DONE := $(VENV)/installed

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := true
export MLFLOW_DISABLE_TELEMETRY := true
export GRADIO_ANALYTICS_ENABLED := False
export HF_HUB_DISABLE_TELEMETRY := 1
# Absolute, so that an experiment in a copy of the project (dvc exp run --temp) is recorded here too.
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

.PHONY: help install repro test torture check ui serve web clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(DONE) ## .venv with the exact versions of constraints.txt (the others call it where it is missing)

$(DONE): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or newer is needed, found %d.%d; say which: make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo 'installing the exact versions of constraints.txt into $(VENV): some minutes, 7 GB'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[train,web,notebooks,dev]'
	touch $@

repro: $(DONE) ## run what has changed of every pipeline in params.yaml (dvc repro)
	$(VENV)/bin/dvc repro

test: $(DONE) ## every test, in two processes (WORKERS=0: in one)
	$(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

torture: $(DONE) ## kill every stage at ten random moments, say the same again, compare (an hour)
	$(VENV)/bin/python -m tests.support.torture

check: $(DONE) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

ui: $(DONE) ## the MLflow UI, on http://127.0.0.1:5000 (PORT=…)
	$(VENV)/bin/mlflow ui --backend-store-uri $(MLFLOW_TRACKING_URI) --host 127.0.0.1 --port $(PORT)

serve: $(DONE) ## the champion as an endpoint, on http://127.0.0.1:5001/invocations (MODEL=…, SERVE_PORT=…)
	$(VENV)/bin/mlflow models serve -m $(MODEL) --env-manager local --host 127.0.0.1 --port $(SERVE_PORT)

web: $(DONE) ## a page to try the trained classifiers on, on http://127.0.0.1:7860 (WEB="--endpoint http://…")
	$(VENV)/bin/flowerml web $(WEB)

clean: ## remove data, models, runs, and DVC's cache of every experiment (not .venv, reports, data/downloads)
	find data -mindepth 1 -maxdepth 1 ! -name downloads -exec rm -rf {} + 2>/dev/null || true
	rm -rf models mlruns mlflow.db .flowerml/runs .dvc/cache .dvc/tmp
