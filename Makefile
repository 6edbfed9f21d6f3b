PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FOLDERS := cli client config events notifiers service workers

# Modules are compiled once, whatever the caller's environment says: else each worker compiles every test anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: deb demo test test-waiting test-heavy test-deb test-lowest test-containers test-slurm test-kubernetes test-notebooks test-recipes test-prometheus test-node test-web screenshots kubelet-api lint bench truth faults dev clean

demo: $(STAMP)
	$(BIN)/canhazgpu demo

# Most tests wait more than they compute, so six run at a time. The tests that do nothing but compute run beside
# them and give way. A few tests need the machine to themselves and come last. No file is read where none of its
# tests run.
TESTS := $(BIN)/python -m pytest
COMPILED := build/.compiled-tests
marked = $(shell grep -rlE --include='test_*.py' '$1pytest\.mark\.($2)\b' tests)
test: $(COMPILED)
	$(MAKE) --no-print-directory --keep-going -j2 test-waiting test-heavy
	$(TESTS) -p no:schemathesis -m alone $(call marked,,alone)

# Pytest compiles each test that has changed: once here, or eight times at the same time.
$(COMPILED): $(STAMP) $(wildcard tests/*.py tests/*/*.py)
	mkdir -p build
	$(TESTS) -p no:schemathesis -p no:cacheprovider --collect-only -qq > $@.log || { cat $@.log; exit 1; }
	touch $@

test-waiting: $(STAMP)
	$(TESTS) -p no:schemathesis -m "not heavy and not alone and not docker and not deb and not slurm and not kubernetes and not notebook and not recipe and not prometheus and not node and not web" \
		-n 6 --dist loadfile --no-loadscope-reorder \
		$(addprefix --ignore=,$(call marked,^pytestmark.*,heavy|alone|docker|deb|slurm|kubernetes|notebook|recipe|prometheus|node|web))

test-heavy: $(STAMP)
	nice -n 5 $(TESTS) -m heavy -n 2 --dist loadfile --no-loadscope-reorder --timeout 3600 -p no:cacheprovider -q \
		$(call marked,,heavy)

# The lowest version of each dependency that pyproject.toml allows, in an environment of its own; the tests' own
# tools are the newest. The OpenAPI document is left out: in which order it lists types is msgspec's affair.
# The man pages too: the newest typer writes the names of arguments in them.
LOWEST := build/lowest
test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -n 2 -p no:cacheprovider tests/unit tests/contract \
		--deselect tests/contract/test_openapi.py::test_the_document_is_what_the_code_says \
		--ignore tests/contract/test_man_pages.py

$(LOWEST)/.installed: pyproject.toml setup.py tests/lowest/constraints.py
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python tests/lowest/constraints.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install -qq --disable-pip-version-check -c $(LOWEST)/constraints.txt --editable '.[tests]'
	touch $@

# With a Docker daemon of their own, which nothing else on the machine sees. Root installs what is missing.
test-containers: $(STAMP)
	tests/containers/install
	$(BIN)/python -m pytest -m docker tests/containers

# With a Slurm of their own on one node. Root installs what is missing. JOBS is how many compete in one test, if set.
test-slurm: $(STAMP)
	tests/slurm/install
	$(BIN)/python -m pytest -m slurm -n 3 --dist loadfile tests/slurm

# The device plugin against a kubelet's sockets. There is no cluster.
test-kubernetes: $(STAMP)
	$(BIN)/python -m pytest -p no:schemathesis -m kubernetes -n 6 tests/kubernetes

# What the device plugin knows of the kubelet's APIs, after a change to the .proto files.
PROTO := cli/kubernetes/proto
kubelet-api: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -I $(PROTO) --descriptor_set_out $(PROTO)/kubelet.binpb \
		$(notdir $(sort $(wildcard $(PROTO)/*.proto)))

# Notebooks with a real kernel, and a real JupyterHub, in an environment that has no package of the service.
NOTEBOOKS := build/notebooks
test-notebooks: $(STAMP) $(NOTEBOOKS)/.installed
	$(BIN)/python -m pytest -m notebook -n 2 --dist loadfile tests/notebooks

$(NOTEBOOKS)/.installed: pyproject.toml setup.py tests/notebooks/requirements.txt
	$(PYTHON) -m venv --clear $(NOTEBOOKS)
	$(NOTEBOOKS)/bin/python -m pip install -qq --disable-pip-version-check -r tests/notebooks/requirements.txt --editable .
	touch $@

# The page in Debian's Chromium, with Playwright in an environment of its own. Root installs what is missing.
WEB := build/web
test-web: $(STAMP) $(WEB)/.installed
	tests/web/install
	$(WEB)/bin/python -m pytest -p no:schemathesis -m web tests/web

# The pictures of docs/web.md, with a made-up lab.
screenshots: $(STAMP) $(WEB)/.installed
	tests/web/install
	PYTHONPATH=tests $(WEB)/bin/python tests/web/screenshots.py docs/images

$(WEB)/.installed: pyproject.toml setup.py tests/web/requirements.txt
	$(PYTHON) -m venv --clear $(WEB)
	$(WEB)/bin/python -m pip install -qq --disable-pip-version-check -r tests/web/requirements.txt --editable '.[tests]'
	touch $@

# The programs of docs/integrations/python.md with their libraries: 6 GB to install, so not in .ci/run.
RECIPES := build/recipes
test-recipes: $(STAMP) $(RECIPES)/.installed
	$(BIN)/python -m pytest -m recipe tests/recipes

$(RECIPES)/.installed: pyproject.toml setup.py tests/recipes/requirements.txt
	$(PYTHON) -m venv --clear $(RECIPES)
	$(RECIPES)/bin/python -m pip install -qq --disable-pip-version-check -r tests/recipes/requirements.txt --editable .
	touch $@

# The exporter with Debian's Prometheus and Alertmanager, which are unpacked into build/ and not installed.
test-prometheus: $(STAMP)
	tests/prometheus/install
	$(BIN)/python -m pytest -p no:schemathesis -m prometheus tests/prometheus

# The consumer in Node, and the documents of events and routes before the parser and the linter that others use, which
# npm installs into build/node.
test-node: $(STAMP)
	tests/node/install
	$(BIN)/python -m pytest -p no:schemathesis -m node tests/node

# build/deb/canhazgpu_VERSION_ARCH.deb, for Debian and Ubuntu with Python 3.11 or later.
deb: $(STAMP)
	packaging/deb/build $(BIN)/python

# Installs the package on systems made by debootstrap, boots two, and types every command line of the documents on one.
# Root installs what is missing.
test-deb: $(STAMP)
	tests/packaging/install
	$(BIN)/python -m pytest -m deb tests/packaging

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(addprefix build/dev/canhazgpu/,$(FOLDERS)) tests bench
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m bench

# What the product says of a made-up lab, against what is true there; docs/reliability.md says how to read it.
STEPS ?= 50000
JOBS ?= 2
REAL ?= 60
SEED ?= $(shell date +%s)
WITHOUT ?=
truth: $(STAMP)
	test $(STEPS) = 0 || $(BIN)/python -m bench.truth --seed $(SEED) --steps $(STEPS) --jobs $(JOBS) --without "$(WITHOUT)"
	test $(REAL) = 0 || $(BIN)/python -m bench.truth --seed $(SEED) --real $(REAL)

# Every fault in every state of a real service; ONLY and STATE choose some. Needs root.
ONLY ?=
STATE ?=
faults: $(STAMP)
	$(BIN)/python -m bench.faults --only "$(ONLY)" --state "$(STATE)" --jobs $(JOBS)

dev: $(STAMP)

# The links let tools that do not run setuptools' import hook find the packages by their real names.
$(STAMP): pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	mkdir -p build/dev/canhazgpu
	for folder in $(FOLDERS); do ln -sfn ../../../$$folder build/dev/canhazgpu/$$folder; done
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
