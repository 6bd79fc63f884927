# Every command of the project. `make help` lists them; CI and people call the same ones.
# Written for GNU make 3.81, which macOS carries, and later.

RECIPE ?=
SET ?=
STEP ?= train
IMAGE ?=
LIGHT_IMAGE ?=
SECRET ?=
ALLOW_MUTABLE ?=
WAIT ?=
CRON ?=
RUN ?=
FORCE ?=
PDB ?=
BASE ?=
PUSH ?=
CA_BUNDLE ?= $(PIP_CERT)
NETWORK ?=
PORT ?=
PAGE_PORT ?=
WORKERS ?=
VERSION ?=
WHY ?=
DIR ?=
HOURS ?= 1
ONLY ?=
DATA ?=
SIZES ?=
TRIALS ?=
JOBS ?=
INPUT ?=
ROWS ?= 100
MODEL ?=
CANARY ?=
# Some shells export a HOST of their own: only one on the command line says where to listen.
ifneq ($(origin HOST),command line)
override HOST :=
endif
# What `make compare` takes, as many as there are; a shell's own variables of such a name are none of them.
LETTERS := A B C D E F G H I J K L M N O P Q R S T U V W X Y Z
$(foreach letter,$(LETTERS),$(if $(filter-out command line,$(origin $(letter))),$(eval override $(letter) :=)))
OUTPUT ?=
PIPELINE ?=
TOP_K ?=
FORMAT ?=

SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
# The environment counts as set up for exactly this lock and no other.
# In a project that `retrainer new` has made the library is a wheel in .retrainer, and belongs to it.
LOCK_SUM := $(shell cat requirements.lock .retrainer/*.whl 2>/dev/null | cksum | tr ' ' '-')
READY := $(VENV)/ready-$(LOCK_SUM)
# Looked up only when the environment is made.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; \
	done)

# What a person or a CI job gives is text: make expands no $(…) in it, and it reaches the shell quoted, as one
# word. make would run what stands behind a line break as a command of its own.
GIVEN := RECIPE SET STEP IMAGE LIGHT_IMAGE SECRET ALLOW_MUTABLE WAIT CRON RUN FORCE PDB BASE PUSH CA_BUNDLE \
	NETWORK PORT PAGE_PORT WORKERS VERSION WHY DIR HOURS ONLY DATA SIZES TRIALS JOBS INPUT ROWS MODEL CANARY HOST SEEDS OUTPUT TOP_K FORMAT \
	PIPELINE PYTHON PIP_CERT A B C D E F G H I J K L M N O P Q R S T U V W X Y Z
define LINE_BREAK


endef
$(foreach name,$(GIVEN),$(if $(filter command environment,$(firstword $(origin $(name)))),\
	$(if $(findstring $(LINE_BREAK),$(value $(name))),$(error $(name): a line break stands in it; leave it out))\
	$(eval override $(name) := $$(value $(name)))))
# The programs that these recipes call are found by it.
$(if $(filter command,$(firstword $(origin PATH))),$(error PATH is the list of folders with programs; name your data by DATA=))
quoted = '$(subst ','\'',$(1))'
# $(call option,VARIABLE,name): --name 'its value', or nothing where it is empty.
option = $(if $($(1)),--$(2) $(call quoted,$($(1))))
each_quoted = $(foreach word,$(1),$(call quoted,$(word)))

# make's own process id reaches the pipeline, so that ending make, however it ends, ends the running step.
PIPELINES := RETRAINER_RUNNER_PID=$$PPID $(PY) -m pipelines
CHOICE = $(call option,RECIPE,recipe) $(foreach pair,$(SET),--set $(call quoted,$(pair)))
IN_IMAGES = $(call option,IMAGE,image) $(call option,LIGHT_IMAGE,light-image) $(call option,SECRET,secret) \
	$(if $(filter 1,$(ALLOW_MUTABLE)),--allow-mutable)
OF_PIPELINE = $(call option,PIPELINE,pipeline)
SCORING = $(OF_PIPELINE) $(if $(PIPELINE),$(call option,INPUT,input) $(call option,OUTPUT,output) \
	$(call option,TOP_K,top-k) $(call option,VERSION,version))
BUILD_WITH = $(call option,BASE,base) $(call option,PUSH,push) $(call option,CA_BUNDLE,ca-bundle) \
	$(call option,NETWORK,network)
REGISTRY := $(PY) -m retrainer
OF = $(call option,RECIPE,recipe)
FORCED = $(if $(filter 1,$(FORCE)),--force)
EXTRAS := --extra timm --extra lora --extra audio --extra translation --extra privacy --extra keras
LOCK := uv pip compile --no-config --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate
DVC := DVC_NO_ANALYTICS=1 $(PY) -m dvc
# Tests start many processes, each of which would compile the library again where the environment forbids to keep
# what was compiled.
FOR_TESTS := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

.DEFAULT_GOAL := help
.PHONY: help setup init pipeline retrain step resolve smoke curve tune suggest search predict convert-weights check-step history promote anchor rollback mirror compare reap ui serve export docs images mlflow-image pin-base \
	rehearse compile inference-service submit schedule unschedule runs adopt replay push pull notify-test doctor test test-slow test-release bench bench-recipes year screens lint \
	format lock wheel clean

##@ to begin
help: ## list these targets
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' \
		$(MAKEFILE_LIST)
	@echo; echo "Choose by RECIPE=name (recipes/name.yaml) and SET=\"training.seed=3 compute.threads=1\"; DEBUG=1 shows tracebacks."

$(READY):
	@if [ -z $(call quoted,$(PYTHON)) ]; then \
		echo "Python 3.11, 3.12 or 3.13 is needed and none was found: install one, or name it: make setup PYTHON=/path/to/python3.12"; \
		exit 1; fi
	@echo "Setting up $(VENV) from requirements.lock: 6 GB, about 2 minutes on a fast line"
	@$(call quoted,$(PYTHON)) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo $(call quoted,$(PYTHON)) "cannot make environments: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	@$(call quoted,$(PYTHON)) -m venv $(VENV)
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(PY) -m pip install --no-deps --require-hashes -r requirements.lock \
		> $(VENV)/install.log 2>&1 || { tail -20 $(VENV)/install.log; \
		echo "the installation failed: the whole log is $(VENV)/install.log; after the cure, run the same command again"; exit 1; }
	@if ls .retrainer/*.whl > /dev/null 2>&1; then PIP_DISABLE_PIP_VERSION_CHECK=1 $(PY) -m pip install --quiet --no-deps \
		--force-reinstall .retrainer/*.whl; else \
		printf '%s\n' '#!$(abspath $(PY))' 'import sys' 'sys.path.insert(0, "$(CURDIR)")' \
			'from retrainer.__main__ import command_line' 'command_line()' > $(VENV)/bin/retrainer && \
		chmod +x $(VENV)/bin/retrainer; fi
	@$(PY) -m retrainer.services.database
	@rm -f $(VENV)/ready-*
	@touch $@

setup: $(READY) ## make .venv from the hash lock (6 GB, about 2 minutes); PYTHON=python3.12 picks one

##@ a recipe, on this machine
init: $(READY) ## look at a folder or file, and write a recipe for it: DATA=path [RECIPE=name]
	@$(REGISTRY) init $(CHOICE) $(call option,DATA,data)

pipeline: $(READY) ## ingest, preprocess, train, evaluate, register: what has changed since last time
	@$(PIPELINES) pipeline $(CHOICE)

retrain: $(READY) ## for cron: decide by retrain.policy whether to train, then what pipeline does; 0 for nothing new
	@$(PIPELINES) retrain $(CHOICE)

step: $(READY) ## run one step alone on its inputs as they lie: STEP=train
	@$(PIPELINES) step $(call quoted,$(STEP)) $(CHOICE)

resolve: $(READY) ## settle a recipe, and list what it sets and what it inherits from params.yaml
	@$(PY) -m pipelines resolve $(CHOICE)

smoke: $(READY) ## 50 rows through every step, apart from everything else
	@$(PIPELINES) smoke $(CHOICE)

curve: $(READY) ## train on parts of the rows: how many more a better figure needs: [SIZES="1/8 1/4 1/2 1"]
	@$(PIPELINES) curve $(CHOICE) $(call option,SIZES,sizes)

tune: $(READY) ## try settings on the validation rows, and write the best as recipes/RECIPE-tuned.yaml: [TRIALS=20] [JOBS=2] [FORCE=1]
	@$(PIPELINES) tune $(CHOICE) $(call option,TRIALS,trials) $(call option,JOBS,jobs) $(FORCED)

suggest: $(READY) ## which unlabelled rows to label first: INPUT=file or folder [ROWS=100] [MODEL=directory]
	@$(REGISTRY) suggest $(OF) $(call option,INPUT,input) $(call option,ROWS,rows) $(call option,MODEL,model)

search: $(READY) ## a page that finds the rows most like a picture, text or sound: [PORT=8090] [MODEL=directory]
	@$(REGISTRY) search $(OF) $(call option,PORT,port) $(call option,MODEL,model)

convert-weights: $(READY) ## turn pickled weights (.pth, .bin) into .safetensors: INPUT=file, of RECIPE's backbone
	@$(REGISTRY) convert-weights $(CHOICE) $(call option,INPUT,input)

predict: $(READY) ## predictions of a file or folder, by the champion: INPUT=file, folder or - [OUTPUT=file.csv, .jsonl, .parquet or -] [TOP_K=3] [VERSION=2 or alias] [MODEL=directory] [GALLERY=folder of those to recognise]
	@$(REGISTRY) predict $(OF) $(call option,INPUT,input) $(call option,OUTPUT,output) $(call option,TOP_K,top-k) \
		$(call option,VERSION,version) $(call option,MODEL,model) $(call option,GALLERY,gallery)

check-step: $(READY) ## is what your own trainer wrote what the step takes? else the key and the cure: DIR=folder [RECIPE=name]
	@$(PY) -m retrainer check-step $(if $(DIR),$(call quoted,$(DIR))) $(OF)

##@ registered versions
serve: $(READY) ## MLflow's scoring server over the champion, and a page to try it by hand, on this machine alone: [VERSION=3] [PORT=8080] [PAGE_PORT=8081 or none] [HOST=] [WORKERS=1] [GALLERY=folder of those to recognise]
	@$(REGISTRY) serve $(OF) $(call option,VERSION,version) $(call option,PORT,port) $(call option,HOST,host) \
		$(call option,PAGE_PORT,page-port) $(call option,WORKERS,workers) $(call option,GALLERY,gallery)

export: $(READY) ## the champion for other programs: ONNX, or another library's layout: FORMAT=onnx, onnx-int8, transformers, timm, torchvision or keras [OUTPUT=folder] [VERSION=2 or alias] [MODEL=directory]
	@$(REGISTRY) export $(OF) $(call option,FORMAT,format) $(call option,OUTPUT,output) \
		$(call option,VERSION,version) $(call option,MODEL,model)

history: $(READY) ## who made which version champion, when and why
	@$(REGISTRY) history $(OF)

promote: $(READY) ## make a version champion by your own decision: VERSION=3 [WHY="…"]
	@$(REGISTRY) promote $(OF) --why=$(call quoted,$(WHY)) -- $(call quoted,$(VERSION))

anchor: $(READY) ## make a version the one below which none may fall, for a reason: VERSION=3 WHY="…"
	@$(REGISTRY) anchor $(OF) --why=$(call quoted,$(WHY)) -- $(call quoted,$(VERSION))

rollback: $(READY) ## make the version champion that was it before: [WHY="…"]
	@$(REGISTRY) rollback $(OF) --why=$(call quoted,$(WHY))

mirror: $(READY) ## show in Kubeflow's Model Registry what MLflow says of the recipe's model: every version, who is champion
	@$(REGISTRY) mirror $(OF)

compare: $(READY) ## versions and reports side by side: settings, data, code, figures, paired tests: A=2 B=champion C=runs/NAME/report …
	@$(REGISTRY) compare $(OF) -- $(foreach letter,$(LETTERS),$(if $($(letter)),$(call quoted,$($(letter)))))

reap: $(READY) ## end what killed processes and pods left in MLflow: gone here, or elsewhere silent for HOURS=1
	@$(REGISTRY) reap $(OF) --hours=$(call quoted,$(HOURS))

ui: $(READY) ## MLflow's pages over mlflow.db, at http://127.0.0.1:5000 (PORT=)
	@$(PY) -m retrainer ui $(call option,PORT,port)

##@ containers
images: $(READY) ## build both images: [PUSH=registry/name] [BASE=image] [CA_BUNDLE=file] [NETWORK=host]
	@$(PIPELINES) images $(BUILD_WITH)

mlflow-image: $(READY) ## build the image of the team's MLflow server, for deploy/ and docker/compose.yaml: the same choices
	@$(PY) -m pipelines.containers.mlflow_image $(BUILD_WITH)

pin-base: $(READY) ## write down the digest of the base image, asked of its registry
	@$(PY) -m pipelines pin-base $(call option,CA_BUNDLE,ca-bundle)

rehearse: $(READY) ## run the compiled pipeline in real containers here, the images built first if need be
	@$(PIPELINES) rehearse $(CHOICE) $(BUILD_WITH)

##@ the cluster of KFP_ENDPOINT
compile: $(READY) ## write build/RECIPE.yaml for Kubeflow: [IMAGE=registry/name@sha256:…] [SECRET=name]
	@$(PY) -m pipelines compile $(CHOICE) $(IN_IMAGES) $(SCORING)

inference-service: $(READY) ## write build/RECIPE-service.yaml: the champion's server, for KServe: [CANARY=10] [VERSION=3]
	@$(PY) -m pipelines inference-service $(CHOICE) $(IN_IMAGES) $(call option,VERSION,version) $(call option,CANARY,canary)

submit: $(READY) ## run the recipe there: [WAIT=1] [IMAGE=…] [SECRET=name] [PIPELINE=predict INPUT=s3://… OUTPUT=s3://…]
	@$(PY) -m pipelines submit $(CHOICE) $(IN_IMAGES) $(SCORING) $(if $(filter 1,$(WAIT)),--wait)

schedule: $(READY) ## run it there by the clock: CRON="0 0 3 1 * *" (seconds first)
	@$(PY) -m pipelines schedule $(CHOICE) $(IN_IMAGES) $(SCORING) --cron $(call quoted,$(CRON))

unschedule: $(READY) ## end that schedule
	@$(PY) -m pipelines unschedule $(CHOICE) $(OF_PIPELINE)

runs: $(READY) ## the recipe's runs and schedule there
	@$(PY) -m pipelines runs $(CHOICE)

adopt: $(READY) ## bring the data of a run into git, as datasets/RECIPE.dvc: RUN=id
	@$(PY) -m pipelines adopt --run $(call quoted,$(RUN)) $(FORCED)

replay: $(READY) ## run one step of a rehearsal or a cluster run again, here: RUN=id STEP=train [PDB=1]
	@$(PIPELINES) replay $(call quoted,$(STEP)) --run $(call quoted,$(RUN)) $(FORCED) $(if $(filter 1,$(PDB)),--debug)

##@ data, and this machine
push: $(READY) ## data and models of every recipe to DVC's remote
	@$(DVC) push --run-cache

pull: $(READY) ## data and models of every recipe from DVC's remote
	@$(DVC) pull --run-cache --allow-missing

notify-test: $(READY) ## send one message to RETRAINER_WEBHOOK, as the end of a run does
	@$(PY) -m retrainer notify --test $(OF)

doctor: $(READY) ## check Python, disk, GPU, MLflow, DVC, with a cure for each, and RECIPE's settings
	@$(PY) -m retrainer doctor $(OF)

##@ this project's own code
test: $(READY) ## the test suite: no network, no GPU, about 6 minutes on 2 cores
	@$(FOR_TESTS) $(PY) -m pytest -n $(call quoted,$(or $(WORKERS),2)) --dist worksteal -m 'not slow'

test-slow: $(READY) ## what takes minutes: kills at every step, the recipes' figures
	@$(FOR_TESTS) $(PY) -m pytest -n $(call quoted,$(or $(WORKERS),2)) --dist worksteal --durations=20 \
		-m 'slow and not release'

test-release: $(READY) ## the same promises in more cases, and the benchmarks' own code: before a release
	@$(FOR_TESTS) $(PY) -m pytest -n $(call quoted,$(or $(WORKERS),2)) --dist worksteal -m release

docs: $(READY) ## write docs/reference.md, and the documentation as a site: build/site/index.html
	@$(PY) -m retrainer.reference
	@$(PY) -m mkdocs build --quiet
	@echo "build/site/index.html"

bench: $(READY) ## the engine beside its peers, on the same work: [ONLY="bert-base mlp"]
	@$(PY) -m benchmarks.speed $(call each_quoted,$(ONLY))
	@$(if $(ONLY),true,$(PY) -m benchmarks.fixed)

bench-recipes: $(READY) ## every use of the README from data to a registered version, as one table: [ONLY="digits-mlp bccd"] [SEEDS="0 1 2"]
	@$(PY) -m benchmarks.recipes $(call each_quoted,$(ONLY)) $(if $(SEEDS),--seeds $(call each_quoted,$(SEEDS)))

year: $(READY) ## twelve monthly retrains with planted events, and a page that shows them: [DATA=Banking77's folder]
	@$(PY) -m benchmarks.year $(call option,DATA,data)

screens: $(READY) ## pictures of the pages of RECIPE's last run, and of `make year`, for docs/images (needs Chromium)
	@OMP_NUM_THREADS=1 SCREENS_OF=runs/$(call quoted,$(or $(RECIPE),sentiment-minilm)) $(PY) -m pytest -q -m slow \
		tests/test_pages.py -k screens

lint: $(READY) ## ruff and mypy
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(READY) ## let ruff mend what it can
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

lock: ## make requirements.lock, and the images' parts of it, again (needs uv and a package index)
	$(LOCK) --extra pipeline --extra samples $(EXTRAS) --extra export --extra tune --extra page --extra dev --output-file requirements.lock pyproject.toml
	$(LOCK) --constraint requirements.lock --extra pipeline --extra samples $(EXTRAS) \
		--output-file docker/full.lock pyproject.toml
	$(LOCK) --constraint requirements.lock --excludes docker/light.excludes \
		--output-file docker/light.lock docker/light.in
	$(LOCK) --constraint requirements.lock --output-file docker/mlflow.lock docker/mlflow.in

wheel: $(READY) ## build the last commit as build/dist/retrainer-VERSION-py3-none-any.whl, which makes and upgrades projects
	@rm -rf build/wheel && mkdir -p build/wheel && git archive HEAD | tar -x -C build/wheel
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(PY) -m pip wheel --quiet --no-deps --no-build-isolation \
		--wheel-dir build/dist ./build/wheel
	@ls build/dist/*.whl

clean: ## remove runs/, build/, checkpoints and tools' caches; the registry, DVC's cache and .venv stay
	rm -rf runs .run build .checkpoints .mypy_cache .ruff_cache .pytest_cache
