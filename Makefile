# `make repro` and `make test` need nothing but git, Python 3.11 and a package registry. `make help` lists the rest.

PYTHON ?= python3
PORT   ?= 5000
SERVE_PORT ?= 5001
WORKERS ?= 2
MODEL  ?= models:/flowers@champion

# An index with torch for CPUs alone, such as https://download.pytorch.org/whl/cpu; empty: PyPI's, with CUDA on Linux.
TORCH_INDEX ?=

VENV := .venv
DONE := $(VENV)/installed
PIP := $(VENV)/bin/python -m pip install --disable-pip-version-check --quiet

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := true
export MLFLOW_DISABLE_TELEMETRY := true
export GRADIO_ANALYTICS_ENABLED := False
export HF_HUB_DISABLE_TELEMETRY := 1
export ORT_DISABLE_TELEMETRY := 1
# Absolute, so that experiments in a copy of the project (dvc exp run --temp) are recorded here too. SQLAlchemy decodes
# the path, so a folder with % or ? in its name is encoded; the slashes too, as MLflow makes the folders it sees in it.
DATABASE := $(CURDIR)/mlflow.db
ENCODED := $(subst /,%2F,$(subst ?,%3F,$(subst %,%25,$(DATABASE))))
export MLFLOW_TRACKING_URI ?= sqlite:///$(if $(findstring %,$(DATABASE))$(findstring ?,$(DATABASE)),$(ENCODED),$(DATABASE))
# DVC makes its folders of hashes with mode 0777, by default in /var/tmp/dvc: nobody else may enter the one above them.
# One for each user, as several may share a project.
PRIVATE := .dvc/tmp/private-$(shell id -u)
export DVC_SITE_CACHE_DIR ?= $(CURDIR)/$(PRIVATE)/dvc
# Without byte code each of the hundreds of processes of the tests would compile flowerml again.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

.PHONY: help install lock private repro exp-show test extended test-engines coverage torture faults check reference notebooks docs recording ui serve web clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(DONE) ## create .venv with the exact files in requirements.lock (TORCH_INDEX=…; the other targets do it if needed)

# The versions are chosen in constraints.txt; requirements.lock adds the SHA-256 of each of their files on PyPI. First
# what others are built with, as --require-hashes does not reach into pip's isolated builds. pip refuses hashes in
# constraints and for `-e .`, so the package itself comes last, without dependencies.
# With TORCH_INDEX, torch and torchvision have the same versions, but come from there, where they are other files: their
# hashes are not checked. What PyPI's torch needs of CUDA is left out.
FOR_CPU := awk '/^[^ ]/ {kept = !/^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==/} kept'
OF_TORCH := sed -n 's/^\(torch==[^ ]*\).*/\1/p; s/^\(torchvision==[^ ]*\).*/\1/p' requirements.lock
$(DONE): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or newer is needed, found %d.%d; choose another: make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo 'installing the exact files in requirements.lock into $(VENV): a few minutes, $(if $(TORCH_INDEX),3,7) GB'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > $(VENV)/build.lock
	$(PIP) --require-hashes -r $(VENV)/build.lock
	$(if $(TORCH_INDEX),$(FOR_CPU),cat) requirements.lock > $(VENV)/files.lock
	$(PIP) --require-hashes --no-deps --no-build-isolation -r $(VENV)/files.lock
	$(if $(TORCH_INDEX),$(PIP) --no-deps --index-url "$(TORCH_INDEX)" $$($(OF_TORCH)))
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

lock: ## write requirements.lock anew, after a change of constraints.txt or of the dependencies in pyproject.toml
	@test -x $(VENV)/bin/uv || { echo 'error: uv, which writes it, comes with the environment; run `make install` first'; exit 1; }
	$(VENV)/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --all-extras -c constraints.txt \
	  --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links -o requirements.lock

private:
	@mkdir -p -m 700 $(PRIVATE)

repro: $(DONE) private ## run the stages that have changed, for every pipeline in params.yaml (dvc repro)
	FLOWERML_SUMMARY_LATER=1 $(VENV)/bin/dvc repro
	@$(VENV)/bin/flowerml summary

# Hashes of files, and metrics beside the accuracies: of some hundred columns people compare these and what was changed.
DROPPED := [^:]*/[^:]*$$|(.*:)?(loss|macro_f1|ece|ece_uncalibrated|known_.*|top_.*|roc_auc|best_valid_loss|best_epoch)$$

exp-show: $(DONE) private ## list the experiments with what differs between them (dvc exp show has a hundred columns)
	$(VENV)/bin/dvc exp show --only-changed --drop '$(DROPPED)'

test: $(DONE) private ## run the tests in two processes (WORKERS=0: one process)
	$(VENV)/bin/python -m pytest -m 'not extended and not engines' -n $(WORKERS) --dist loadfile --no-loadscope-reorder

extended: $(DONE) private ## run the tests that `make test` leaves out: experiments, locked databases, injected faults
	$(VENV)/bin/python -m pytest -m extended -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-engines: $(DONE) private ## run the tests on Ray, Dask, Spark, PostgreSQL and S3, one after the other
	$(VENV)/bin/python -m pytest -m engines

coverage: $(DONE) private ## run all tests under coverage.py, print the total and write htmlcov/
	$(VENV)/bin/coverage erase
	$(VENV)/bin/coverage run -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
	$(VENV)/bin/coverage combine --quiet
	$(VENV)/bin/coverage html --quiet
	$(VENV)/bin/coverage report

torture: $(DONE) private ## kill every stage at ten random moments, re-run it and compare the outputs (an hour)
	$(VENV)/bin/python -m tests.support.torture

faults: $(DONE) private ## fail the file operations of every stage, re-run and compare (hours; FAULTS="--stages extract")
	$(VENV)/bin/python -m tests.support.faulty_files $(FAULTS)

check: $(DONE) ## run ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

reference: $(DONE) ## write docs/reference anew, from the code
	$(VENV)/bin/python -m docsite reference

notebooks: $(DONE) ## run the notebooks anew and keep their outputs
	$(VENV)/bin/python -m docsite notebooks

docs: $(DONE) ## build the documentation into site/ and say where to open it (without a network)
	$(VENV)/bin/python -m docsite site

recording: $(DONE) ## record the terminal of the README anew (docs/images/recording.svg)
	$(VENV)/bin/python -m docsite.recording

ui: $(DONE) ## start MLflow's pages on http://127.0.0.1:5000, and print a link to the runs (PORT=…)
	$(VENV)/bin/flowerml ui --port $(PORT)

serve: $(DONE) ## serve the champion on http://127.0.0.1:5001/predict and /invocations (MODEL=…, SERVE_PORT=…)
	$(VENV)/bin/flowerml serve $(MODEL) --port $(SERVE_PORT)

web: $(DONE) ## start the page to try the trained classifiers, on http://127.0.0.1:7860 (WEB="--endpoint http://…")
	$(VENV)/bin/flowerml web $(WEB)

clean: ## remove data, models, runs and DVC's cache with all experiments (keeps .venv, reports, data/downloads)
	find data -mindepth 1 -maxdepth 1 ! -name downloads -exec rm -rf {} + 2>/dev/null || true
	rm -rf models mlruns mlflow.db mlflow.db-* mlflow.db.* .flowerml/runs .dvc/cache .dvc/tmp
