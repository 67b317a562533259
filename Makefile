# The two commands that do everything: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python

.PHONY: demo test test-fast slow lint notebooks browser bench peers lab pages coverage clean
.DEFAULT_GOAL := demo

# Installed once, and again when what is needed changes.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: .venv/installed
	$(RUN) -m ssdedu demo

test: lint test-fast notebooks browser slow

test-fast: .venv/installed
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m "not slow and not browser" -n 2

# Two demos, which use both cores themselves, last.
slow: .venv/installed
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m slow -n 2 --dist loadfile --ignore=tests/test_cli.py
	$(RUN) -m pytest -m slow tests/test_cli.py

notebooks: .venv/installed
	OMP_NUM_THREADS=1 $(RUN) -m pytest --nbval --nbval-current-env --nbval-cell-timeout=300 -n 2 --dist loadscope -p no:cacheprovider notebooks

# The explorers in JupyterLab and Chromium (or Chrome); what they looked like is in runs/screenshots.
browser: .venv/installed
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m browser -rs

lint: .venv/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

coverage: .venv/installed
	OMP_NUM_THREADS=1 $(RUN) -m pytest --cov=ssdedu --cov-report=term-missing:skip-covered

# ssdedu beside its peers; those that are absent are shown as absent. `make bench PORTS=FOLDER` adds ports, and
# `make peers` the packages, in an environment of their own that is used once it is there.
BENCHES := matching loss detect augment map network import
BENCH_PYTHON = $(firstword $(wildcard .venv-peers/bin/python) $(RUN))
bench: .venv/installed
	for name in $(BENCHES); do OMP_NUM_THREADS=1 $(BENCH_PYTHON) benchmarks/bench_$$name.py $(if $(PORTS),--ports $(PORTS)) || exit 1; done

peers:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --requirement benchmarks/peers.txt --editable .

# make lab LAB=--allow-root, or LAB=--port=9000, hands options on to JupyterLab.
lab: .venv/installed
	$(RUN) -m jupyter lab $(LAB) notebooks/00_start_here.ipynb

# The course as pages that open without Python: site/index.html. Runs every notebook; some minutes.
pages: .venv/installed
	OMP_NUM_THREADS=1 $(RUN) -m ssdedu.course.pages --out site

clean:
	rm -rf .venv build *.egg-info
