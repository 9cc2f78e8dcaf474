"""``spacesfs version``: what runs here, for who has to tell somebody else."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from spacesfs import __version__
from spacesfs.cli.output import say
from spacesfs.fuse.programs import bare_environment

_LIBRARIES = ("pyfuse3", "trio", "httpx", "h11", "msgspec", "cachetools", "pydantic")
_FUSERMOUNT_SECONDS = 10.0


@click.command(name="version")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def show_version(*, as_json: bool) -> None:
    """Show the versions of spacesfs, of the libraries it uses, and of this system."""
    found = facts()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        say(f"{name:<12} {value or 'not found'}")


def facts() -> dict[str, str | None]:
    """Return the versions by name; None for what is not there."""
    return {
        "spacesfs": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "system": _system(),
        "fusermount3": _fusermount(),
        **{name: _library(name) for name in _LIBRARIES},
    }


def _library(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _system() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _fusermount() -> str | None:
    program = shutil.which("fusermount3")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "--version"],
            env=bare_environment(),
            capture_output=True,
            text=True,
            timeout=_FUSERMOUNT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.rpartition(" ")[2].strip() or str(Path(program))
