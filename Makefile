# `make demo` and `make test` set everything up by themselves in .venv. PYTHON picks the interpreter (3.11 or later).
PYTHON ?= python3
BIN := .venv/bin
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test check lint types bench format clean

demo: .venv/ready
	$(BIN)/undiffuse demo --out out/demo

# Two workers of one thread each: spinning threads on a shared core are 10 to 100 times slower.
test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

check: lint types test

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/pyright

bench: .venv/ready
	$(BIN)/python benchmarks/operators.py

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch -e '.[dev]'
	touch $@

clean:
	rm -rf .venv
