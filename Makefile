# `make demo` and `make test` do all the set-up on a fresh machine.
PYTHON ?= python3
PYTEST ?=
VENV := .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY ?= passive
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint wheel optuna-oldest clean

demo: $(VENV)/ready
	$(BIN)/nasplat demo --out demo-run

test: $(VENV)/ready-dev
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST)

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# the wheel works from another folder, in a fresh environment
wheel: $(VENV)/ready-dev
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel . > build/wheel/log 2>&1 || (cat build/wheel/log; false)
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install -q -c constraints.txt torch
	build/wheel/venv/bin/python -m pip install -q -c constraints.txt build/wheel/*.whl
	mkdir -p build/wheel/elsewhere
	cd build/wheel/elsewhere && ../venv/bin/nasplat doctor
	cd build/wheel/elsewhere && ../venv/bin/nasplat score \
	  'nasbench201:|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|'

# the search tests on the oldest Optuna we support
optuna-oldest: $(VENV)/ready-dev
	rm -rf build/optuna && mkdir -p build/optuna
	$(BIN)/python -m pip install -q --no-deps --target build/optuna optuna==4.5.0
	OMP_NUM_THREADS=1 PYTHONPATH=build/optuna $(BIN)/python -m pytest tests/study/test_search.py

$(VENV)/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist demo-run
