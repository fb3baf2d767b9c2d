# One spelling each. Every target does its own set-up.
VENV := .venv
PY := $(VENV)/bin/python
BIN := $(VENV)/bin
PYTHON ?= python3
TORCH_VERSION := 2.13.0
TRITON_VERSION := 3.7.1
PEERS_BESIDE := datasketch==2.0.0 rensa==0.5.0 dask==2026.8.0 distributed==2026.8.0 ray==2.60.0
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help setup repro test check serve ui bench bench-nanogpt bench-peers bench-gpu bench-gpu-rehearsal profile test-slow test-gpu test-peers

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(VENV)/.ready  ## make .venv: CPU torch (or TORCH=cuda), everything else by hash

$(VENV)/.ready: requirements.lock pyproject.toml .ci/setup
	PYTHON=$(PYTHON) TORCH=$(TORCH) TORCH_VERSION=$(TORCH_VERSION) TRITON_VERSION=$(TRITON_VERSION) \
	  TORCH_CPU_INDEX=$(TORCH_CPU_INDEX) bash .ci/setup $(VENV)
	@touch $@

repro: setup  ## run the pipeline: what changed, and nothing else
	$(BIN)/dvc repro
	@$(BIN)/rawgpt summary

test: setup  ## the default suite: no GPU, no network beyond the package registry
	$(PY) -m pytest

check: setup  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

serve: setup  ## HTTP API over a model: make serve MODEL=finetune
	$(BIN)/rawgpt serve --model $(or $(MODEL),finetune)

ui: setup  ## MLflow's pages over mlflow/
	$(BIN)/mlflow ui --backend-store-uri sqlite:///$(CURDIR)/mlflow/mlflow.db --host 127.0.0.1 --port 5000

BENCHMARKS := tracking_overhead waiting_threads checkpoint_time optimizer_against_torch recipe_against_gpt2 ladder \
  zero3_against_fsdp2 expert_parallel encode_to_shards loader_share scrubber language_tags chunked_cross_entropy \
  token_counts tokenizer_bits_per_byte generator_diversity hinglish_before_after alignment pipeline_time \
  recipe_ablation time_to_loss batching speculative server_load quantization retrieval

bench: setup  ## every benchmark that needs no peers, into benchmarks/results; hours
	@for name in $(BENCHMARKS); do echo "== $$name"; $(PY) -m benchmarks.$$name || exit 1; done

bench-nanogpt: setup  ## beside nanoGPT: make bench-nanogpt NANOGPT=../nanoGPT
	@test -f "$(NANOGPT)/model.py" || { echo "NANOGPT: no model.py in '$(NANOGPT)';" \
	  "git clone https://github.com/karpathy/nanoGPT ../nanoGPT, then NANOGPT=../nanoGPT"; exit 1; }
	@for name in against_nanogpt_loss throughput_against_nanogpt time_to_loss; do echo "== $$name"; \
	  $(PY) -m benchmarks.$$name --nanogpt "$(NANOGPT)" || exit 1; done

# Beside these, with nanoGPT: throughput_against_nanogpt --device cuda --shapes gpt2-124m, gpu_time_to_loss
GPU_BENCHMARKS := flash_attention fused_kernels w4a16 step_profile chunked_cross_entropy graphed_decode

bench-gpu: setup  ## every benchmark that needs a CUDA device and no peers; some 20 minutes
	@for name in $(GPU_BENCHMARKS); do echo "== $$name"; $(PY) -m benchmarks.$$name || exit 1; done

bench-gpu-rehearsal: setup  ## the same at toy size in Triton's interpreter, nothing is kept; some 5 minutes
	TRITON_INTERPRET=1 $(PY) -m benchmarks.flash_attention --rehearse
	@for name in fused_kernels w4a16 step_profile graphed_decode; do echo "== $$name"; \
	  TRITON_INTERPRET=1 $(PY) -m benchmarks.$$name --device cpu --toy || exit 1; done

profile:  ## switch params.yaml: make profile NAME=gpu-124m
	@test -n "$(NAME)" && test -f conf/$(NAME).yaml || \
	  { echo "profile: no conf/$(NAME).yaml; choose NAME= one of: $(basename $(notdir $(wildcard conf/*.yaml)))"; exit 1; }
	cp conf/$(NAME).yaml params.yaml

test-slow: setup  ## minutes long: the whole pipeline, kills, servers
	$(PY) -m pytest -m slow --override-ini addopts=--import-mode=importlib

test-gpu: setup  ## needs a CUDA device
	$(PY) -m pytest -m gpu --override-ini addopts=--import-mode=importlib

test-peers: setup $(VENV)-peers/.ready  ## needs .venv-peers
	$(VENV)-peers/bin/python -m pytest -m peers --override-ini addopts=--import-mode=importlib \
	  $$(grep -rl --include='test_*.py' 'pytest.mark.peers' tests)

bench-peers: setup $(VENV)-peers/.ready .deps/.ready  ## beside transformers, tokenizers, rustbpe, rensa, Dask, Ray
	$(VENV)-peers/bin/python -m benchmarks.logits_against_transformers
	$(VENV)-peers/bin/python -m benchmarks.export_against_peers --model smollm2-135m
	$(PY) -m benchmarks.bpe_training --peers-python $(VENV)-peers/bin/python
	$(PY) -m benchmarks.cpu_int4_decode --peers-python $(VENV)-peers/bin/python
	$(PY) -m benchmarks.lora_against_peft --peers-python $(VENV)-peers/bin/python  # after `dvc repro logs`
	PYTHONPATH=.:.deps $(PY) -m benchmarks.near_duplicates
	PYTHONPATH=.:.deps $(PY) -m benchmarks.cluster_engines

.deps/.ready: Makefile  # peers that read what the product reads: beside its packages, never among them
	$(PY) -m pip install --quiet --target .deps --upgrade $(PEERS_BESIDE)
	@touch $@

$(VENV)-peers/.ready: requirements-peers.txt
	$(PYTHON) -m venv $(VENV)-peers
	PEERS=1 PYTHON=$(PYTHON) TORCH_VERSION=$(TORCH_VERSION) TORCH_CPU_INDEX=$(TORCH_CPU_INDEX) \
	  bash .ci/setup $(VENV)-peers requirements-peers.txt
	@touch $@
