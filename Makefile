# Every target sets up what it needs; see "make help".
PYTHON ?= python3
BIN := .venv/bin
CHECKED := mmdet_salience tools

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format clean

help:  ## print this list
	@sed -n 's/^\([a-z]*\): .*## \(.*\)/make \1|\2/p' $(firstword $(MAKEFILE_LIST)) \
	  | while IFS='|' read -r name text; do printf '%-12s %s\n' "$$name" "$$text"; done

setup:  ## make .venv with the tested dependencies (at once when it is up to date)
	@command -v "$(PYTHON)" > /dev/null || { \
	  echo 'setup: no $(PYTHON) was found; install Python 3.10 or newer, or name yours: make PYTHON=/path/to/python setup' >&2; \
	  exit 1; }
	@"$(PYTHON)" tools/dev/setup_env.py

demo: setup  ## run tools/demo.py
	@$(BIN)/python tools/demo.py

test: lint  ## check style, types and docstrings, then run the tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile --durations=10

lint: setup  ## check style, types and docstrings
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary mmdet_salience
	@$(BIN)/interrogate --quiet $(CHECKED)

format: setup  ## put imports and layout in order
	@$(BIN)/ruff check --quiet --select I --fix .
	@$(BIN)/ruff format .

clean:  ## remove caches and work_dirs (.venv stays)
	@rm -rf work_dirs build dist .mypy_cache .pytest_cache .ruff_cache
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
