# Two commands are enough on a fresh machine: `make train` and `make test`. Each sets itself up.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
AUDIT  ?= .venv-audit
ARGS   ?=
STUDY  ?= dataset_size_small
RUNS   ?= runs/songbook

.DEFAULT_GOAL := help
.PHONY: help setup train sweep report test test-slow mutants lint format audit bench docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

# The stamp is newer than pyproject.toml once everything that it requires is installed.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("musictag needs Python 3.10 or newer, this is " + sys.version.split()[0] + "; use: make PYTHON=python3.11 ...") if sys.version_info < (3, 10) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

setup: $(VENV)/.installed ## make .venv and install musictag into it

train: setup ## generate the embedded data, train a small spectrogram model, print the song-level result
	$(BIN)/python train.py model=spectrogram_small recipe=quick $(ARGS)

sweep: setup ## run a whole study; rerun it to resume (STUDY=dataset_size_small, a file of sweep/)
	$(BIN)/python train.py sweep=$(STUDY) $(ARGS)

report: setup ## tables, figures and a page of the study's finished runs (RUNS=runs/songbook)
	$(BIN)/musictag report $(RUNS) --study $(STUDY) $(ARGS)

test: setup ## run the tests (without those marked slow)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses auto --maxprocesses 8 --dist worksteal $(ARGS)

test-slow: setup ## run all tests, with coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --cov --cov-report=term $(ARGS)

mutants: setup ## put deliberate faults into a copy of the code: each must make a test fail (a selection: ARGS=words)
	$(BIN)/python -m tests.mutants $(ARGS)

lint: setup ## check format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: setup ## format the code and fix what can be fixed automatically
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

audit: setup ## compare what is installed with the known vulnerabilities (pip-audit, in its own environment)
	test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/pip install --quiet pip-audit; }
	$(AUDIT)/bin/pip-audit --strict --skip-editable --path $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') $(ARGS)

bench: setup ## measure preparation, batches and models on this machine (one section: ARGS=prepare)
	$(BIN)/python -m tests.benchmarks $(ARGS)

$(VENV)/.docs-installed: pyproject.toml | setup
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

docs: setup $(VENV)/.docs-installed ## build the documentation as a site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)

clean: ## remove the virtual environment, caches and site/ (data/ and runs/ stay)
	rm -rf $(VENV) $(AUDIT) site .pytest_cache .ruff_cache .coverage* htmlcov *.egg-info
