# Everything runs in .venv, made in this tree; nothing outside the tree is touched.
# PYTHON=python3.12 picks the interpreter that .venv is made with.

PYTHON ?=
# What pytest is given: make test ARGS="tests/wal -x".
ARGS ?=
# Where the workloads for 'make traces' are.
TRACES ?=
# By which seed a cluster is simulated or broken, how many are simulated, and for how long.
SEED ?=
SEEDS ?=
MINUTES ?=
export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_ROOT_USER_ACTION := ignore
# A user's own settings that would lead pip or Python out of .venv.
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV PYTHONPATH PYTHONHOME VIRTUAL_ENV
# And one, common in containers, by which each process compiles every module anew.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
RUN := $(BIN)/python -m
SOURCES := titan wal tools tests

.DEFAULT_GOAL := help
.PHONY: help demo web test simulate chaos chaos-ha fuzz soak-crash soak-faults soak-worker traces check bench proto format clean
.PHONY: check-format check-lint check-types check-layers check-stubs check-web

help: ## List the targets (the default).
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.stamp ## Start a small cluster on this machine and show what it does.
	$(BIN)/python tools/demo/demo.py

# Needs node with npm, and the npm registry at the first time and when the lock file has changed.
web: .venv/.stamp ## Bundle the pages of `titan web` into titan/web/static.
	$(RUN) tools.bundle

# A file at a time in two processes for each core, since many tests wait; the long ones are among
# the first. ARGS="-n 0": one by one.
test: .venv/.stamp ## Run the tests; ARGS="tests/wal -x" goes to pytest.
	$(RUN) pytest -n $$((2 * $$(nproc))) --dist loadfile --no-loadscope-reorder $(ARGS)

# SEED=N: that one, with all that happens in it; SEEDS=N: so many; MINUTES=N: as many as fit.
# ARGS=--several: of clusters with several managers over one journal.
simulate: .venv/.stamp ## Run simulated clusters under faults, SEED=N, SEEDS=N or for MINUTES=10.
	$(RUN) tests.simulation $(SEED:%=--seed %) $(SEEDS:%=--seeds %) $(MINUTES:%=--minutes %) $(ARGS)

# SEED=… takes the faults and the load of an earlier run again; ARGS="--keep" goes to the tool.
chaos: .venv/.stamp ## Break a real cluster under load for MINUTES=2, and judge it; see tools/chaos.
	$(RUN) tools.chaos $(MINUTES:%=--minutes %) $(SEED:%=--seed %) $(ARGS)

# ARGS="--rounds 50": so many; ARGS="--kind fail-over": of that kind only.
chaos-ha: .venv/.stamp ## Break several managers over two PostgreSQL servers under load, round by round.
	$(RUN) tools.chaos.several $(SEED:%=--seed %) $(ARGS)

# SEED=… throws the same again, but what is in time with what else happens; ARGS=--tls: at servers
# with certificates.
fuzz: .venv/.stamp ## Throw hostile messages and bytes at a real manager and worker for MINUTES=1; see tools/fuzz.
	$(RUN) tools.fuzz $(MINUTES:%=--minutes %) $(SEED:%=--seed %) $(ARGS)

soak-crash: .venv/.stamp ## Kill a manager fifty times under load and see that nothing acknowledged is lost.
	TITAN_CRASHES=50 $(RUN) pytest -n 0 -s tests/crash/test_manager_killed.py $(ARGS)

soak-faults: .venv/.stamp ## Fail each system call on the files of a manager and of a task host once (strace; minutes).
	TITAN_FAULTS=all $(RUN) pytest -s tests/crash/test_syscall_faults.py tests/crash/test_host_faults.py $(ARGS)

soak-worker: .venv/.stamp ## Run 100,000 short tasks through one worker and see that nothing of it grows (minutes).
	TITAN_SOAK_TASKS=100000 $(RUN) pytest -n 0 -s tests/worker/test_soak.py $(ARGS)

# Workloads are not copied into this tree: their licences are their owners'.
traces: .venv/.stamp ## Compare the scheduler with others on the workloads in TRACES=DIR (minutes).
	@test -n "$(TRACES)" || { echo "make traces TRACES=DIR: say where the workloads are" >&2; exit 2; }
	TITAN_TRACES="$(TRACES)" $(RUN) pytest -n 0 -s tests/simulator/test_traces.py $(ARGS)

# make -k check goes on past the first that fails.
check: check-format check-lint check-types check-layers check-stubs check-web ## Check format, lint, types, layering, generated stubs and pages (no tests).

check-format: .venv/.stamp
	$(RUN) ruff format --check .

check-lint: .venv/.stamp
	$(RUN) ruff check .

check-types: .venv/.stamp
	$(RUN) mypy $(SOURCES)

check-layers: .venv/.stamp
	$(BIN)/lint-imports

check-stubs: .venv/.stamp
	$(RUN) tools.proto --check

# Where node is, and always in CI.
check-web: .venv/.stamp
	$(RUN) tools.bundle --check

# Shows beside its numbers what bench.json says from the last time, then writes it anew.
bench: .venv/.stamp ## Run the benchmarks, write bench.json and bench-*.png (half an hour).
	$(RUN) tools.bench --before bench.json --json bench.json

proto: .venv/.stamp ## Generate titan/rpc/v1 from the .proto files.
	$(RUN) tools.proto

format: .venv/.stamp ## Format the code and fix what lint can fix by itself.
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

clean: ## Remove .venv, caches and built packages.
	rm -rf titan/web/static titan/web/static.new titan/web/frontend/node_modules titan/web/frontend/.lock
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# Made again only when what it is made from has changed.
.venv/.stamp: pyproject.toml constraints.txt tools/make-venv.sh
	tools/make-venv.sh
	@touch $@
