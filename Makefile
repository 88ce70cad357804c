# Two commands do everything: `make read` and `make test`. `make help` lists the rest.
PYTHON ?= python3
# A Python that is named has an environment of its own beside the default one: .venv-3.12
VENV := .venv
ifneq ($(PYTHON),python3)
VENV := .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
endif
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock
JOBS ?= 2
PORT ?= 8000
NOTEBOOKS ?=
SWEEPS ?= $(wildcard book/sweeps/*.yaml)
NBVAL := -m pytest --nbval book -n $(JOBS) --dist loadfile --nbval-cell-timeout 600
# Other rounding than by default: other kernels in TensorFlow and NumPy, other orders of sums.
OTHER_ROUNDING := TF_ENABLE_ONEDNN_OPTS=0 OPENBLAS_CORETYPE=Sandybridge OPENBLAS_NUM_THREADS=1 \
  OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help read test quick shake lint book lab execute sweep bench mutants assets lock clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

read: $(VENV)/.read ## build both languages and serve them on this machine
	$(BIN)/python tools/build.py --serve --port $(PORT)

test: lint $(VENV)/.full ## prove everything (PYTHON=python3.12: in an environment of its own)
	$(BIN)/python -m pytest tests --ignore tests/book --ignore tests/browser -n $(JOBS)
	$(BIN)/python $(NBVAL)
	$(BIN)/python tools/build.py
	$(BIN)/python -m pytest tests/book tests/browser -rs

quick: lint ## lint and the library's tests, in under two minutes
	$(BIN)/python -m pytest tests --ignore tests/book --ignore tests/browser -n $(JOBS)

shake: $(VENV)/.full ## run all notebooks under other rounding, as on another processor
	$(OTHER_ROUNDING) $(BIN)/python $(NBVAL)

lint: $(VENV)/.full ## style of code and notebooks
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

book: $(VENV)/.read ## build both languages into _build/site
	$(BIN)/python tools/build.py

lab: $(VENV)/.full ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir book

execute: $(VENV)/.full ## run notebooks again in place (NOTEBOOKS="book/math/objective.ipynb" for some)
	$(BIN)/python tools/execute.py --jobs $(JOBS) $(NOTEBOOKS)

sweep: $(VENV)/.full ## run the parameter sweeps; finished runs are kept (SWEEPS="book/sweeps/labels.yaml" for one)
	for grid in $(SWEEPS); do $(BIN)/python tools/sweep.py $$grid --workers $(JOBS) || exit 1; done

bench: $(VENV)/.full ## measure the library's speed as ratios (TORCH=python with PyTorch adds its row)
	$(BIN)/python tools/bench.py $(if $(TORCH),--torch $(TORCH))

mutants: $(VENV)/.mutants ## break the losses and the distiller on purpose: does a test notice? (hours)
	$(BIN)/python -m pytest tests/book/test_mutants.py
	$(BIN)/python tools/mutants.py --workers $(JOBS)

assets: $(VENV)/.full ## make the shipped data and the teacher again (half an hour)
	$(BIN)/python tools/make_assets.py

lock: $(VENV)/.full ## resolve requirements.lock again
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --no-annotate --no-header --quiet requirements.txt -o requirements.lock

clean: ## remove everything that was built, the environments too
	rm -rf _build .venv .venv-3.* distill_lib.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "This book needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another one: make read PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.read: requirements-read.txt requirements.lock | $(BIN)/python
	$(PIP) -r requirements-read.txt
	@touch $@

$(VENV)/.full: requirements.txt requirements-read.txt requirements.lock pyproject.toml | $(BIN)/python
	$(PIP) -r requirements.txt
	$(PIP) --editable .
	@touch $@ $(VENV)/.read

$(VENV)/.mutants: $(VENV)/.full requirements-mutants.txt
	$(PIP) -r requirements-mutants.txt
	@touch $@
