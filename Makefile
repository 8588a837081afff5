# `make` alone lists the targets. Each one sets up what it needs, in .venv, the first time.
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
CORE := $(VENV)/.ready-core
DEV := $(VENV)/.ready-dev
DEMO := $(VENV)/.ready-demo

unexport PYTHONPATH
export PYTHONNOUSERSITE := 1
export HF_HUB_OFFLINE ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 10))
FOR_TRANSFORMERS := import sys; sys.exit(sys.version_info < (3, 11))
HAS_CUDA := import sys, torch; sys.exit(not torch.cuda.is_available())
BENCH := import sys; from dsf_kernels.benchmarks import bench; print(bench(sys.argv[2:] or None, device=sys.argv[1]).markdown())

# A stamp counts only while the environment runs and stands where it was made.
$(shell test ! -e $(CORE) || { $(PY) -c pass && test "$$(cat $(CORE))" = "$$(pwd -P)"; } 2>/dev/null || rm -f $(CORE) $(DEV) $(DEMO))

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check lint types package docs gpu-check gpu-check-dry clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PYTHON=python3.12   the Python (3.10 or newer) that .venv is made with; to change it: make clean"
	@echo "  CASES='gla kda'     the cases of the benchmark that make gpu-check runs; default: all"
	@echo "  TORCH_INDEX=URL     the index of PyTorch's CPU wheels (pytorch.org): a small torch, for machines without a GPU"

MODELS := $(addprefix examples/models/,byte_lstm byte_mamba2 byte_olmo_hybrid byte_gpt2)
demo: $(DEMO) ## convert four trained networks into A, B, C, D and say what they are
	$(VENV)/bin/dsf convert $(if $(shell $(PY) -c '$(FOR_TRANSFORMERS)' 2>/dev/null && echo yes),$(MODELS),$(firstword $(MODELS)))

# Triton reads TRITON_INTERPRET when it is imported: its interpreter has a process of its own.
INTERPRETER := OMP_NUM_THREADS=1 TRITON_INTERPRET=1 $(PY) -m pytest -q -n 2
test: $(DEV) ## the tests that CI runs
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 -m "not slow and not gpu and not interpreter"
	$(INTERPRETER) -m "interpreter and not slow" tests/test_gpu_*.py

test-all: $(DEV) ## every test that needs no GPU
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 -m "not gpu and not interpreter"
	$(INTERPRETER) -m interpreter tests/test_gpu_*.py

check: lint types package docs ## style, types, packaging and documentation

lint: $(DEV) ## ruff
	$(PY) -m ruff check .

types: $(DEV) ## pyright
	$(PY) -m pyright --pythonpath $(PY)

package: $(DEV) ## build wheel and sdist, look inside, install the wheel and run it
	$(PY) scripts/check_package.py

docs: $(DEV) ## documentation in docs/_build/html, its examples run
	$(PY) -m sphinx -q -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html
	$(PY) -m sphinx -q -W --keep-going -b doctest -d docs/_build/doctrees docs docs/_build/doctest

gpu-check: export PYTHONNOUSERSITE :=
gpu-check: export PYTHONPATH := $(CURDIR):$(CURDIR)/analysis:$(PYTHONPATH)
gpu-check: ## the GPU's tests, then `dsf bench` there, with any Python that has a CUDA torch, triton, pytest; installs nothing
	@for python in "$(PYTHON)" "$(PY)"; do \
	  "$$python" -c '$(HAS_CUDA)' 2>/dev/null || continue; \
	  echo "GPU tests with $$python"; \
	  "$$python" scripts/pytest_side_by_side.py -m gpu tests/test_gpu_*.py; status=$$?; \
	  "$$python" -c '$(BENCH)' cuda $(CASES) || exit; \
	  exit $$status; \
	done; \
	echo "No Python with a torch that sees a CUDA device (tried $(PYTHON) and $(PY)): no GPU test was run."; \
	echo "make gpu-check-dry goes through the same steps on the CPU."; exit 1

gpu-check-dry: $(DEV) ## the same steps on the CPU: the tests in Triton's interpreter, one case of the benchmark
	OMP_NUM_THREADS=1 TRITON_INTERPRET=1 $(PY) scripts/pytest_side_by_side.py -m "gpu and interpreter" tests/test_gpu_*.py
	$(PY) -c '$(BENCH)' cpu linear_attention

clean: ## remove .venv and everything that was built
	rm -rf $(VENV) build dist docs/_build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(CORE): pyproject.toml constraints.txt
	@{ $(PY) -c '$(NEW_ENOUGH)' && $(PY) -m pip --version; } >/dev/null 2>&1 || { \
	  $(PYTHON) -c '$(NEW_ENOUGH)' || { \
	    echo "dsf needs Python 3.10 or newer; $(PYTHON) is: $$($(PYTHON) --version 2>&1)." >&2; \
	    echo "Choose another one, for example: make $(or $(firstword $(MAKECMDGOALS)),test) PYTHON=python3.12" >&2; \
	    exit 1; }; \
	  echo "Making a virtual environment in $(VENV)"; rm -rf $(VENV); \
	  $(PYTHON) -m venv $(VENV) || { \
	    rm -rf $(VENV); command -v uv >/dev/null && uv venv -q --seed --python $(PYTHON) $(VENV); } || { \
	    rm -rf $(VENV); \
	    echo "No virtual environment could be made with $(PYTHON)." >&2; \
	    echo "On Debian or Ubuntu: sudo apt install python3-venv. Elsewhere: install uv. Then run make again." >&2; \
	    exit 1; }; }
	@echo "Installing into $(VENV) (the first time takes some minutes, most of them for torch)"
	$(PIP) install -q "pip>=23.1"
	$(if $(TORCH_INDEX),$(PIP) install -c constraints.txt torch --index-url $(TORCH_INDEX))
	$(PIP) install -c constraints.txt -e .
	@pwd -P > $@

$(DEMO): $(CORE)
	@echo "Installing transformers, of which three of the four models are (Python 3.11 or newer; without it, the first alone)"
	$(PIP) install -q -c constraints.txt -e '.[hf]'
	@touch $@

$(DEV): $(CORE)
	@echo "Installing what the tests and checks need"
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@
