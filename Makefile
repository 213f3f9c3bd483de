.PHONY: install check test slow docs bench

install:  ## Install with everything a developer needs
	python -m pip install -e ".[dev]"

check:  ## Lint, format and types
	ruff check .
	ruff format --check .
	mypy

test:  ## The default suite
	pytest

slow:  ## The tests that take longer
	pytest -m slow

docs:  ## Build the documentation
	mkdocs build --strict

bench:  ## Speed against peers (see docs/benchmarks.md)
	for script in tools/bench/*.py; do python "$$script" || exit 1; done
