"""docker/Dockerfile, carried out step by step in root file systems."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests.image.debian import SEARCH_PATH, Container, copy

# The base image is Debian's with a Python of its own; here it is Debian's Python under the same name.
_PYTHON = """
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends python3 python3-dev python3-venv
ln -sf /usr/bin/python3 /usr/local/bin/python
"""


@dataclass(slots=True)
class Stage:
    """What one FROM begins: its root file system, and what its instructions set."""

    root: Path
    folder: str = "/"
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": SEARCH_PATH})
    entrypoint: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return the instructions, continued lines joined."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = (line.strip().partition(" ") for line in text.splitlines() if line.strip())
    return [(name, value.strip()) for name, _, value in lines]


def prepare(base: Path) -> None:
    """Make of a minimal Debian what the base image is to the recipe."""
    Container(base).step(_PYTHON)


def build(dockerfile: Path, context: Path, base: Path, folder: Path) -> Stage:
    """Carry out all instructions; return the last stage. Raises AssertionError where a step fails or is unknown."""
    stages: dict[str, Stage] = {}
    stage = Stage(base)
    for name, value in instructions(dockerfile):
        if name == "FROM":
            label = value.partition(" AS ")[2] or "last"
            stage = stages[label] = Stage(folder / label)
            copy(base, stage.root)
        elif name == "RUN":
            Container(stage.root).step(value, environment=stage.environment, folder=stage.folder)
        elif name == "WORKDIR":
            stage.folder = value
            (stage.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            _copy(value, stage, stages, context)
        elif name == "ENV":
            _set(value, stage)
        elif name == "ENTRYPOINT":
            stage.entrypoint = _words(value)
        elif name == "HEALTHCHECK":
            stage.healthcheck = _words(value.partition("CMD ")[2])
        else:
            assert name in {"VOLUME", "STOPSIGNAL", "CMD"}, f"{name} is not known here"
    return stage


def _words(value: str) -> list[str]:
    return [word.rstrip(",") for word in shlex.split(value.strip("[]"))]


def _set(value: str, stage: Stage) -> None:
    for word in shlex.split(value):
        name, _, text = word.partition("=")
        stage.environment[name] = text.replace("$PATH", stage.environment["PATH"])


def _copy(value: str, stage: Stage, stages: dict[str, Stage], context: Path) -> None:
    *sources, target = value.split()
    origin = context
    if sources[0].startswith("--from="):
        origin = stages[sources.pop(0).removeprefix("--from=")].root
    goal = stage.root / (target if target.startswith("/") else f"{stage.folder}/{target}").lstrip("/")
    for source in sources:
        path = origin / source.lstrip("/")
        if path.is_dir():
            shutil.copytree(path, goal, symlinks=True, dirs_exist_ok=True)
        else:
            into = goal / path.name if target.endswith("/") else goal
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, into)
