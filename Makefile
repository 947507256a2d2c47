# Targets: demo, test, test-backends, native, stubs, lint, docs, bench, clean. Each installs all that it needs: test-backends into
# .venv-backends, which has no TensorFlow, as a user of JAX or torch has none; the others into .venv.
#
#   make demo                                    train, compare and export on the shipped data; results in runs/
#   make demo CSV=my.csv TARGET=load             the same for a file of your own
#   make demo CSV=my.csv TARGET=load ARGS="--unit MW --horizon 48"       `ARGS=--help` lists all options
#   make test PYTEST="-k export"                 part of the tests
#   make bench ARGS=--quick                      speed, in four minutes instead of fifteen; the machine must be quiet

PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
BACKENDS := .venv-backends/bin
PIP := -m pip install --disable-pip-version-check --quiet
INSTALLING := @echo "Installing; this takes a few minutes the first time."
# TensorFlow's smaller build without GPU support exists for Linux on x86 only.
TENSORFLOW ?= $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' '-')),tensorflow-cpu,tensorflow)
# On Linux the plain name may bring the GPU build, which is large; PyTorch's own index has the CPU build:
#   make test-backends TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
#: The tests that any backend can run.
NEUTRAL := tests/equations tests/cells tests/layers tests/conformance tests/parity \
	tests/diagnostics/test_trace.py tests/diagnostics/test_attribution.py \
	tests/diagnostics/test_contributions.py tests/test_timeseries.py tests/timeseries tests/test_saved_models.py tests/test_keras_hooks.py \
	$(addprefix tests/engines/test_,fast.py jax.py torch.py cudnn.py)
#: What mypy does not look into by itself, as a stub stands beside it.
STUBBED := $(patsubst %.pyi,%.py,$(wildcard keras_lstm_custom/*/*.pyi))
#: Keras' own tests: five minutes of compilation on JAX, one on the others.
SLOW_ON_JAX := --ignore tests/parity/test_keras_own_tests.py

.PHONY: demo test test-backends native stubs lint docs bench clean

demo: .venv/demo
	$(BIN)/python examples/forecast.py $(if $(CSV),--csv "$(CSV)") $(if $(TARGET),--target "$(TARGET)") $(ARGS)

test: lint
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -n $(JOBS) -q $(PYTEST)

test-backends: .venv-backends/test
	KERAS_BACKEND=jax $(BACKENDS)/python -m pytest -n $(JOBS) -q -m "not tensorflow" $(NEUTRAL) $(SLOW_ON_JAX) $(PYTEST)
	KERAS_BACKEND=torch $(BACKENDS)/python -m pytest -n $(JOBS) -q -m "not tensorflow" $(NEUTRAL) $(PYTEST)

native: .venv/dev
	$(BIN)/python -m keras_lstm_custom.engines.native.build

stubs: .venv/dev
	$(BIN)/python tools/stubs.py

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy $(STUBBED)

docs: .venv/docs
	npm ci --prefix tools/site --no-audit --no-fund --silent
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "site/index.html"

bench: .venv/bench native
	$(BIN)/python benchmarks/speed.py $(ARGS)
	$(BIN)/python benchmarks/latency.py $(if $(findstring --quick,$(ARGS)),--quick)

clean:
	rm -rf .venv .venv-* runs build dist site tools/site/node_modules .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info

.venv/python .venv-backends/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(@D)
	@touch $@

.venv/demo: .venv/python pyproject.toml
	$(INSTALLING)
	$(BIN)/python $(PIP) -e ".[plots,export,forecast]" "$(TENSORFLOW)>=2.21"
	@touch $@

.venv/dev: .venv/python pyproject.toml
	$(INSTALLING)
	$(BIN)/python $(PIP) -e ".[dev]"
	@touch $@

# JAX is the smallest backend.
.venv/docs: .venv/python pyproject.toml
	$(INSTALLING)
	$(BIN)/python $(PIP) -e ".[docs]" jax
	@touch $@

.venv/bench: .venv/dev
	$(BIN)/python $(PIP) jax
	$(BIN)/python $(PIP) $(TORCH)
	$(BIN)/python $(PIP) --no-deps tf_keras
	@touch $@

.venv-backends/test: .venv-backends/python pyproject.toml
	$(INSTALLING)
	$(BACKENDS)/python $(PIP) -e ".[test]" jax
	$(BACKENDS)/python $(PIP) $(TORCH)
	@touch $@
