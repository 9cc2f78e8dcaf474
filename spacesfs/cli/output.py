"""How commands speak: one line at a time, and nothing that a Space contains can steer the terminal."""

from __future__ import annotations

import json

import click

from spacesfs.logs import one_line, scrub

_UNIT_STEP = 1024


def say(text: str) -> None:
    """Print one line."""
    click.echo(one_line(text))


def print_json(value: object) -> None:
    """Print a value as JSON, in ASCII: whatever a name holds, no terminal obeys it."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=True))


def complain(text: str) -> None:
    """Print one line on standard error, with our name before it and no secret in it."""
    click.echo(f"spacesfs: {one_line(scrub(text))}", err=True)


def human_bytes(count: int) -> str:
    """Write a number of bytes for reading: ``512 B``, ``3.4 MiB``."""
    if count < _UNIT_STEP:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        value /= _UNIT_STEP
        if value < _UNIT_STEP:
            return f"{value:.1f} {unit}"
    return f"{value / _UNIT_STEP:.1f} TiB"


def human_seconds(seconds: float) -> str:
    """Write a duration for reading, in its largest unit: ``12 s``, ``3 min``, ``5 h``, ``2 d``."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def counted(count: int, noun: str) -> str:
    """Write a number of things: ``1 change``, ``2 changes``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
