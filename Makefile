# On a bare machine every target first installs what it needs: see scripts/setup.
BIN := .venv/bin

.PHONY: demo test soak image-test check lint types format docs site lock setup
.DEFAULT_GOAL := check

demo:  ## mount an embedded S3 server: stays until Ctrl-C on a terminal, else a short tour
	@scripts/setup demo
	$(BIN)/spacesfs demo $(ARGS)

test: setup  ## the whole suite, by two workers; ARGS="-k rename" runs a part of it
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

soak: setup  ## kill a mount 200 times and more, and compare with the model for long; writes docs/soak.md; ARGS="--rounds 500"
	$(BIN)/python -m tests.crash.soak $(ARGS)
	SPACESFS_MODEL_EXAMPLES=1000 $(BIN)/python -m pytest tests/mount/test_model.py

image-test: setup  ## the image's steps, and the documents' commands, in a Debian made by debootstrap; as root, some minutes
	scripts/setup image
	$(BIN)/python -m pytest tests/image/container.py tests/image/administrator.py $(ARGS)

check: lint types test  ## what CI runs

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/hadolint docker/Dockerfile

types: setup
	$(BIN)/mypy
	$(BIN)/mypy scripts/site.py

format: setup  ## repair what can be repaired
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: setup  ## the tables of options, metrics and modules, the manual pages
	$(BIN)/spacesfs config reference | \
	sed -i -e '/^<!-- options/,/^<!-- end/{//!d}' -e '/^<!-- options/r /dev/stdin' docs/configuration.md
	$(BIN)/python -c 'from spacesfs.fuse.exporting import reference_table as table; print(table(), end="")' | \
	sed -i -e '/^<!-- metrics/,/^<!-- end/{//!d}' -e '/^<!-- metrics/r /dev/stdin' docs/metrics.md
	$(BIN)/python scripts/modulemap.py > docs/modules.md
	rm -rf man && $(BIN)/python scripts/manpages.py man

site: setup  ## the documents as a site in build/site, links checked; needs no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
	--custom-compile-command 'make lock' pyproject.toml

lock: setup  ## newest versions that pyproject.toml allows, with their hashes
	$(COMPILE) -o requirements/run.txt
	$(COMPILE) -c requirements/run.txt --extra demo -o requirements/demo.txt
	$(COMPILE) -c requirements/demo.txt --extra demo --group dev -o requirements/dev.txt

setup:
	@scripts/setup test
