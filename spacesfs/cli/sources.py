"""What there is to move: the files, objects and folders that a command's sources name, one item each.

A folder that is named alone counts by its contents, as with rclone and ``aws s3 cp --recursive``: ``put -r photos
my-bucket:2024`` makes ``2024/a.jpg`` of ``photos/a.jpg``. Several sources, and what a glob matches, keep their names
below the target.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import click
import trio

from spacesfs.cli.meter import Meter
from spacesfs.cli.places import STANDARD, Place, SpacePlace, bring_up_to_date
from spacesfs.cli.selection import Found, objects_below, select
from spacesfs.cli.spaces import Spaces


@dataclass(frozen=True, slots=True)
class Item:
    """One file or object to move.

    Attributes:
        source: Where it is.
        size: In bytes; 0 where nobody knows.
        name: Where it goes below a target folder, as a path with ``/``; "" for standard input.
        may_rename: It is all there is to move, so the target may be its new name instead of a folder.
        etag: The version that was found of an object, else "".
    """

    source: Place
    size: int
    name: str
    may_rename: bool
    etag: str = ""


async def items(
    spaces: Spaces, source: Place, meter: Meter, *, is_only: bool, recursive: bool
) -> AsyncGenerator[Item, None]:
    """Return what a source names; what is left out is told to the meter.

    Args:
        spaces: The way to Spaces.
        source: What was named.
        meter: Where to say what is left out.
        is_only: There is no other source.
        recursive: Folders are wanted too.

    Raises:
        click.ClickException: It is not there, or is a folder and those are not wanted.
        SpacesError, MountError: The Space can't be used.
    """
    if isinstance(source, SpacePlace):
        walk = _of_space(spaces, source, is_only=is_only, recursive=recursive)
    elif source == STANDARD:
        yield Item(source, 0, "", may_rename=True)
        return
    else:
        walk = _of_disk(source, meter, is_only=is_only, recursive=recursive)
    async with aclosing(walk):
        async for item in walk:
            yield item


async def _of_space(spaces: Spaces, place: SpacePlace, *, is_only: bool, recursive: bool) -> AsyncGenerator[Item, None]:
    bring_up_to_date(place)
    bucket = await spaces.bucket(place)
    matching = await select(bucket, place)
    is_alone = is_only and matching[0].key.rstrip("/") == place.key.rstrip("/")  # else a glob has matched
    for found in matching:
        if found.entry is not None:
            yield Item(place.at(found.key), found.entry.size, found.name, is_alone, found.entry.etag)
            continue
        _check_wanted(str(place.at(found.key)), recursive=recursive)
        start = _start_of_names(found, is_alone=is_alone)
        async with aclosing(objects_below(bucket, found.key)) as entries:
            async for entry in entries:
                if entry.key != found.key:  # the folder's own marker
                    name = entry.key[start:]
                    yield Item(place.at(entry.key), entry.size, name, may_rename=False, etag=entry.etag)


async def _of_disk(path: Path, meter: Meter, *, is_only: bool, recursive: bool) -> AsyncGenerator[Item, None]:
    try:
        status = await trio.to_thread.run_sync(path.stat)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode):
        yield Item(path, status.st_size, path.name, may_rename=is_only)
        return
    _check_wanted(str(path), recursive=recursive)
    todo = [(path, "" if is_only else f"{_own_name(path)}/")]
    while todo:
        folder, name = todo.pop()
        try:
            files, folders, odd = await trio.to_thread.run_sync(_read_folder, folder)
        except OSError as error:
            meter.fail(f"{folder}: {error.strerror}")
            continue
        for entry, size in files:
            yield Item(Path(entry), size, name + os.path.basename(entry), may_rename=False)
        for entry, why in odd:
            meter.note(f"{entry}: left out, {why}")
        todo += [(Path(entry), f"{name}{os.path.basename(entry)}/") for entry in reversed(folders)]


def _read_folder(folder: Path) -> tuple[list[tuple[str, int]], list[str], list[tuple[str, str]]]:
    """Return a folder's files with their sizes, its folders, and what is neither, with the reason; each in order."""
    files, folders, odd = [], [], []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_file():
                files.append((entry.path, entry.stat().st_size))
            elif entry.is_dir():
                odd.append((entry.path, "a link to a folder"))
            else:
                odd.append((entry.path, "a link to nowhere" if entry.is_symlink() else "neither file nor folder"))
    return files, folders, odd


def _own_name(folder: Path) -> str:
    """Return a folder's name, also of one that was named by dots."""
    return os.path.basename(os.path.realpath(folder))


def _check_wanted(folder: str, *, recursive: bool) -> None:
    if not recursive:
        raise click.ClickException(f"{folder}: is a folder; add -r")


def _start_of_names(found: Found, *, is_alone: bool) -> int:
    """Return how much of the keys below a folder is not part of the items' names."""
    return len(found.key) if is_alone else len(found.key) - len(found.name) - 1 if found.name else 0
