# `make demo` and `make test` are all that one needs to know. Every target does
# its own set-up, in .venv and in the versions of constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Without build isolation, so that builds see the pinned versions too: the
# build of mmcv, and parts of mmengine, need pkg_resources (setuptools < 81).
PIP = $(BIN)/python -m pip install --disable-pip-version-check \
	--no-build-isolation -c constraints.txt
SOURCES := setup.cfg pyproject.toml constraints.txt
# Tests that need MMEngine and no other OpenMMLab package.
CORE := not needs_mmdet and not needs_deepspeed \
	and not needs_mmpretrain and not needs_mmseg
ONEDL := .venv-onedl
OF_FIELD := .venv-field
# Of which `make field` tries configs. Some ask for old versions of others, or
# for what their models do not import.
ZOOS := mmdet==3.3.0 mmsegmentation==1.2.2 mmpretrain==1.2.0 mmpose==1.3.2 \
	mmaction2==1.2.0 mmyolo==0.6.0 mmrotate==1.0.0rc1 mmdet3d==1.4.0 \
	e2cnn==0.2.3 torchvision==0.28.0
ZOOS_IMPORT := six pycocotools shapely terminaltables tqdm einops regex scipy \
	ftfy==6.3.1 prettytable==3.18.0 json_tricks==3.17.3 munkres==3.0.0 \
	mat4py==0.6.0 modelindex==0.0.2 importlib-metadata==10.2.0 numba==0.68.1 \
	plyfile==1.1.5 trimesh==5.2.0
# Whose ways of loading it tries, apart: mmpretrain does not import beside this
# transformers.
OF_LOADING := .venv-loading
LIBRARIES := transformers timm==1.0.31 peft==0.21.2 diffusers==0.42.1 \
	accelerate==1.15.0 open_clip_torch==3.3.0

.PHONY: demo demo-mmdet test test-onedl compat fuzz field bench blocks docs \
	lint setup clean

demo: $(VENV)/.demo-ready
	$(BIN)/mmpartinit demo

# One thread: the layers are small, and on busy cores two wait for each other.
demo-mmdet: $(VENV)/.test-ready
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m configs.digits_detection.compare

# A process for each core, each with whole files.
PYTEST := -m pytest -n logical --dist loadfile
test: $(VENV)/.test-ready
	$(BIN)/python $(PYTEST) -m 'not needs_mmpretrain and not needs_mmseg'

# Beside onedl-mmengine, which has the same import name as mmengine. Several
# processes beside it are left to `make compat`.
test-onedl: $(ONEDL)/.ready
	$(ONEDL)/bin/python $(PYTEST) -m '$(CORE)' --ignore tests/processes/test_processes.py

# On other stacks, each in an environment of nox's. Downloads several
# gigabytes; COMPAT='-s openmmlab' chooses, COMPAT=--list says what there is.
compat: $(VENV)/.test-ready
	$(BIN)/nox $(COMPAT)

fuzz: $(VENV)/.test-ready
	MMPARTINIT_HYPOTHESIS=nightly $(BIN)/python -m pytest tests/test_fuzz.py

# How other libraries load, trainings of four packages, and new blocks in configs
# that eight ship, with all that must hold; more than an hour on two cores.
# FIELD='--package mmseg --sample 5' tries fewer configs.
TRY := OMP_NUM_THREADS=1 $(OF_FIELD)/bin/python -W ignore tests/field
LOADED := transformers timm peft diffusers accelerate open_clip
field: $(OF_FIELD)/.ready $(OF_LOADING)/.ready
	OMP_NUM_THREADS=1 $(OF_LOADING)/bin/python -W ignore \
		tests/field/loaders.py $(LOADED)
	$(TRY)/loaders.py mmdet mmseg mmpretrain mmaction
	$(TRY)/training.py
	$(TRY) $(FIELD)

# Ratios to what users would do instead; BENCH=--save keeps them for the docs.
# Then what it costs to bring several processes in line.
bench: $(VENV)/.bench-ready
	$(BIN)/python tests/benchmarks $(BENCH)
	OMP_NUM_THREADS=1 $(BIN)/python -m torch.distributed.run \
		--nproc-per-node 2 tests/benchmarks/synchronise.py

# What suggested starts of many blocks do to a pretrained network. Fails where
# one does harm; BLOCKS=--save keeps the numbers for the docs.
blocks: $(VENV)/.test-ready
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore tests/benchmarks blocks $(BLOCKS)

# The pages in each language, in docs/_build. What looks wrong is an error; where
# there is Node.js, their search is asked for words too.
DOCS := $(BIN)/sphinx-build -q -E -W --keep-going -n -c docs
docs: $(VENV)/.docs-ready
	$(DOCS) docs/en docs/_build/en
	$(DOCS) -D language=zh_CN docs/zh_cn docs/_build/zh_cn
	grep -q '"../zh_cn/index.html"' docs/_build/en/index.html
	grep -q '"../en/index.html"' docs/_build/zh_cn/index.html
	if command -v node; then \
		node docs/search.js docs/_build/en frozen weights uncovered=messages \
			'keep the values that they were built with=messages' && \
		node docs/search.js docs/_build/zh_cn 骨干 权重 冻结 初始化 断点续训 \
			path-not-found=messages; fi
	@echo 'docs/_build/en/index.html docs/_build/zh_cn/index.html'

lint: $(VENV)/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(VENV)/.test-ready

clean:
	rm -rf $(VENV) $(ONEDL) $(OF_FIELD) $(OF_LOADING) .nox build dist docs/_build *.egg-info

$(VENV)/.tools-ready $(ONEDL)/.tools-ready $(OF_FIELD)/.tools-ready \
		$(OF_LOADING)/.tools-ready: constraints.txt
	@echo '--- creating $(@D) with $(PYTHON)'
	$(PYTHON) -m venv $(@D) || { echo 'No virtual environment could be \
	made: is python3-venv installed? Or name a Python: \
	make PYTHON=/path/to/python3.11'; exit 1; }
	$(PIP) -q setuptools wheel
	@touch $@

$(ONEDL)/%: BIN := $(ONEDL)/bin
$(OF_FIELD)/%: BIN := $(OF_FIELD)/bin
$(OF_LOADING)/%: BIN := $(OF_LOADING)/bin

$(VENV)/.demo-ready: $(VENV)/.tools-ready $(SOURCES)
	@echo '--- installing PyTorch, MMEngine and what the demo needs'
	$(PIP) -q -e '.[openmmlab,demo]' || { echo 'Installing failed: the \
	lines above say what; is the package registry reachable?'; exit 1; }
	@touch $@

$(VENV)/.docs-ready: $(VENV)/.demo-ready
	@echo '--- installing Sphinx'
	$(PIP) -q -e '.[openmmlab,demo,docs]' || { echo 'Installing \
	failed: the lines above say what.'; exit 1; }
	@touch $@

$(VENV)/.test-ready: $(VENV)/.demo-ready
	@echo '--- installing mmcv: built from source once, about 15 minutes on'
	@echo '    two cores; after that pip has the wheel in its cache'
	$(PIP) -q ninja psutil
	$(PIP) mmcv || { echo 'Building mmcv failed: it needs a C++ compiler \
	and the Python headers (Debian: apt install build-essential \
	python3-dev).'; exit 1; }
	@echo '--- installing mmdet and the test tools'
	$(PIP) -q -e '.[openmmlab,demo,mmdet,test,dev]' || { echo 'Installing \
	failed: the lines above say what.'; exit 1; }
	@touch $@

$(VENV)/.bench-ready: $(VENV)/.test-ready
	@echo '--- installing transformers, to be compared with'
	$(PIP) -q transformers || { echo 'Installing failed: the lines above \
	say what.'; exit 1; }
	@touch $@

$(ONEDL)/.ready: $(ONEDL)/.tools-ready $(SOURCES)
	@echo '--- installing PyTorch, onedl-mmengine and the test tools'
	$(PIP) -q -e '.[onedl,demo,test]' || { echo 'Installing failed: the \
	lines above say what.'; exit 1; }
	@touch $@

$(OF_FIELD)/.ready: $(OF_FIELD)/.tools-ready $(SOURCES) Makefile
	@echo '--- installing mmcv (see above) and the packages of the field'
	$(PIP) -q -e '.[openmmlab,demo,test]' ninja psutil
	$(PIP) mmcv
	$(PIP) -q --no-deps $(ZOOS)
	$(PIP) -q $(ZOOS_IMPORT)
	@touch $@

$(OF_LOADING)/.ready: $(OF_LOADING)/.tools-ready $(SOURCES) Makefile
	@echo '--- installing the libraries whose loading is tried'
	$(PIP) -q -e '.[openmmlab,demo,test]' psutil
	$(PIP) -q --no-deps torchvision==0.28.0
	$(PIP) -q $(LIBRARIES)
	@touch $@
