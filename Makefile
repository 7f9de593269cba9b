# `make run` plays; `make test` checks. Both install what they need.
PYTHON ?= python3
VENV := .venv
LISTEN ?= 127.0.0.1:4040
DEMO := $(or $(XDG_DATA_HOME),$(HOME)/.local/share)/playhead/demo
BIN := $(VENV)/bin

.PHONY: run setup test torture lint bench dist clean

run: $(VENV)/ready
ifdef MUSIC
	@exec $(BIN)/playhead serve "$(MUSIC)" --listen $(LISTEN)
else
	@$(BIN)/python demo/make_library.py "$(DEMO)" --behind
	@exec $(BIN)/playhead serve "$(DEMO)" --listen $(LISTEN)
endif

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt scripts/setup
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/setup
	@touch $@

test: $(VENV)/ready lint
	@sh scripts/packages
	$(BIN)/pytest -m "not torture" -n 2 --dist loadfile

torture: $(VENV)/ready
	@sh scripts/packages
	$(BIN)/pytest -m torture --timeout=3600

lint: $(VENV)/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/ready
	@sh scripts/packages
	$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY))

dist: $(VENV)/ready
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
