"""``spacesfs drop-cache`` and ``warm``: what can be done for the files of a running mount."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from spacesfs.cli.client import ask_drop_cache, serving
from spacesfs.cli.meter import Meter
from spacesfs.cli.output import counted, say
from spacesfs.cli.paths import complete_path, resolved
from spacesfs.errors import MountError

_READERS = 8
_PIECE_BYTES = 1 << 20


@click.command()
@click.argument("mountpoint", shell_complete=complete_path)
def drop_cache(mountpoint: str) -> None:
    """Forget what the mount on MOUNTPOINT has kept of files in memory and on the local disk. Loses no change."""
    _, control = serving(resolved(mountpoint))
    ask_drop_cache(control)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=complete_path)
def warm(paths: tuple[str, ...]) -> None:
    """Read files, and all below directories, so that they are in the local cache when a program wants them."""
    places = [resolved(path) for path in paths]
    for place in places:
        serving(place)
    lock = threading.Lock()
    with Meter() as meter, ThreadPoolExecutor(_READERS) as pool:

        def read(file: Path) -> None:
            try:
                for count in _pieces(file):
                    with lock:
                        meter.move(count)
            except OSError as error:
                with lock:
                    meter.fail(f"{file}: {error.strerror}")
            else:
                with lock:
                    meter.finish()

        for file, size in _files(places):
            with lock:
                meter.plan(size)
            pool.submit(read, file)
    say(f"{counted(meter.done.files, 'file')} read")
    if meter.done.failed:
        raise MountError(f"{counted(meter.done.failed, 'file')} could not be read")


def _pieces(file: Path) -> Iterator[int]:
    """Read a file to its end; yield the bytes of each step."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        buffer = bytearray(_PIECE_BYTES)
        while count := os.readv(descriptor, [buffer]):
            yield count
    finally:
        os.close(descriptor)


def _files(places: list[Path]) -> Iterator[tuple[Path, int]]:
    """Yield the regular files at and below places, and their sizes in bytes."""
    for place in places:
        if place.is_dir():
            with os.scandir(place) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    yield from _files([Path(entry.path)])
                elif entry.is_file(follow_symlinks=False):
                    yield Path(entry.path), entry.stat(follow_symlinks=False).st_size
        elif place.is_file():
            yield place, place.stat().st_size
        else:
            raise MountError(f"{place}: there is no such file or directory")
