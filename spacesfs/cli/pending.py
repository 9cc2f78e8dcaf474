"""``spacesfs pending``: what is acknowledged and not in the Space yet, of mounts and of journals that no mount has."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from spacesfs.cli.client import ask_drop, ask_retry
from spacesfs.cli.inspect import describe_change
from spacesfs.cli.journals import JournalFolder, journal_folders, state_dir_of
from spacesfs.cli.options import journal_options
from spacesfs.cli.output import counted, human_bytes, print_json, say
from spacesfs.cli.paths import complete_path
from spacesfs.cli.sync import sync_journal
from spacesfs.errors import FsError, MountError
from spacesfs.fuse.messages import MountStatus, PendingChange
from spacesfs.logs import one_line
from spacesfs.pending.intents import Intent, Present, kind_of
from spacesfs.pending.overlay import Overlay
from spacesfs.pending.rescue import Saved, export, intents_in, journal_files
from spacesfs.pending.schema import FILE_NAME
from spacesfs.pending.selection import is_within, selected
from spacesfs.pending.statedir import StateFolder

_target = click.argument("target", metavar="[BUCKET[:PREFIX]|MOUNTPOINT]", required=False, shell_complete=complete_path)
_paths = click.argument("paths", metavar="[PATH]...", nargs=-1, shell_complete=complete_path)
_state_dir = click.option("--state-dir", metavar="DIR", help="Where the journals are.")


class Waiting(msgspec.Struct, frozen=True):
    """What waits in one journal file. ``mountpoint`` is empty when no mount has it, or when it was set aside."""

    space: str
    endpoint: str
    mountpoint: str
    journal: str
    set_aside: bool
    unreadable: int
    pending: list[PendingChange]


@dataclass(frozen=True, slots=True)
class _File:
    """One journal file of a folder, and what is in it; ``problem`` says why it can't be read."""

    folder: JournalFolder
    path: Path
    intents: list[Intent]
    unreadable: int
    problem: str = ""

    @property
    def is_aside(self) -> bool:
        return self.path.name != FILE_NAME

    def within(self, paths: Sequence[str]) -> list[Intent]:
        """Return the intents at and below paths, relative to the root; all if there are none."""
        keys = _keys(self.folder, paths)
        return [intent for intent in self.intents if any(is_within(intent.key, key) for key in keys)]


@click.group()
def pending() -> None:
    """Show, retry, save or drop what is acknowledged and not in the Space yet."""


@pending.command(name="list")
@_target
@_state_dir
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def list_pending(target: str | None, *, as_json: bool, **flags: object) -> None:
    """List what waits: of a Space, of a mount, or of all; also what was set aside because it was damaged."""
    files = [file for folder in journal_folders(target, state_dir_of(flags)) for file in _files(folder)]
    if as_json:
        print_json(msgspec.to_builtins([_waiting(file) for file in files]))
        return
    for file in files:
        changes = _waiting(file).pending
        if changes or file.is_aside or file.unreadable or file.problem:
            _print(file, changes)


@pending.command()
@_target
@_paths
@journal_options
def retry(target: str | None, paths: Sequence[str], **flags: object) -> None:
    """Try again at once what failed, instead of after its delay. Without a mount this is what `spacesfs sync` does."""
    for folder in journal_folders(target, state_dir_of(flags)):
        if folder.control is not None:
            say(f"{folder.title}: {counted(ask_retry(folder.control, list(paths) or ['']), 'change')} tried again")
        elif any(file.intents for file in _files(folder) if not file.is_aside):
            sync_journal(folder, flags)


@pending.command(name="export")
@click.argument("target", metavar="BUCKET[:PREFIX]|MOUNTPOINT", shell_complete=complete_path)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@_paths
@_state_dir
def export_pending(target: str, directory: Path, paths: Sequence[str], **flags: object) -> None:
    """Copy the bytes that wait into DIR, under their names; works without the Space, and changes nothing.

    A file of which only changed parts are here gets a name that ends in .partial. Nothing in DIR is written over.
    """
    failed = 0
    for folder in journal_folders(target, state_dir_of(flags)):
        for file in _files(folder):
            below = directory / file.path.name if file.is_aside else directory
            failed += file.unreadable + bool(file.problem)
            if file.problem:
                say(file.problem)
                continue
            for saved in export(file.path, folder.identity.prefix, file.within(paths), below):
                failed += saved.path is None
                say(_saved(saved))
    if failed:
        raise MountError(f"{counted(failed, 'change')} could not be saved; see above")


@pending.command()
@click.argument("target", metavar="BUCKET[:PREFIX]|MOUNTPOINT", shell_complete=complete_path)
@_paths
@_state_dir
@click.option("--all", "everything", is_flag=True, help="Drop all that waits, instead of PATHs.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(target: str, paths: Sequence[str], *, everything: bool, yes: bool, **flags: object) -> None:
    """Forget what waits at and below PATHs, for good. What the Space holds then counts again."""
    if bool(paths) == everything:
        raise click.UsageError("name the paths to drop, or give --all")
    for folder in journal_folders(target, state_dir_of(flags)):
        current = [file for file in _files(folder) if not file.is_aside]
        overlay = Overlay()
        for intent in (intent for file in current for intent in file.intents):
            overlay.put(intent)
        doomed = selected(overlay, _keys(folder, paths))
        if not doomed:
            continue
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError("nobody is there to be asked; give --yes")
            for intent in doomed:
                say(describe_change(_change(folder, intent)))
            click.confirm(one_line(f"Drop {counted(len(doomed), 'change')} of {folder.title} for good?"), abort=True)
        say(f"{folder.title}: {counted(_drop(folder, paths), 'change')} dropped")


def _drop(folder: JournalFolder, paths: Sequence[str]) -> int:
    if folder.control is not None:
        return ask_drop(folder.control, list(paths) or [""])
    import trio  # noqa: PLC0415 - most commands need no event loop

    from spacesfs.unmounted import drop as drop_unmounted  # noqa: PLC0415

    claimed = StateFolder.claim(folder.path.parent, folder.identity, say, None)
    try:
        return len(trio.run(drop_unmounted, claimed, _keys(folder, paths)))
    except FsError as error:
        raise MountError(f"the journal in {folder.path} can't be written: {error}") from error
    finally:
        claimed.release()


def _keys(folder: JournalFolder, paths: Sequence[str]) -> list[str]:
    return [folder.identity.prefix + path.strip("/") for path in paths or [""]]


def _files(folder: JournalFolder) -> Iterator[_File]:
    for path in journal_files(folder.path):
        try:
            intents, unreadable = intents_in(path)
        except MountError as error:
            yield _File(folder, path, [], 0, str(error))
        else:
            yield _File(folder, path, intents, unreadable)


def _waiting(file: _File) -> Waiting:
    identity, status = file.folder.identity, file.folder.status
    is_live = status is not None and not file.is_aside
    return Waiting(
        space=identity.space,
        endpoint=identity.endpoint,
        mountpoint=status.mountpoint if status is not None and is_live else "",
        journal=str(file.path),
        set_aside=file.is_aside,
        unreadable=file.unreadable + bool(file.problem),
        pending=_changes(file, status if is_live else None),
    )


def _changes(file: _File, status: MountStatus | None) -> list[PendingChange]:
    """Return all that waits: a mount knows more of it than its journal, but tells of so many only."""
    told = status.pending if status is not None else []
    if status is not None and status.pending_changes <= len(told):
        return told
    named = {change.path for change in told}
    return [*told, *(one for one in (_change(file.folder, intent) for intent in file.intents) if one.path not in named)]


def _change(folder: JournalFolder, intent: Intent) -> PendingChange:
    size = intent.want.size if isinstance(intent.want, Present) else 0
    path = intent.key.removeprefix(folder.identity.prefix)
    return PendingChange(path, kind_of(intent), size, max(0.0, time.time() - intent.since))


def _print(file: _File, changes: Sequence[PendingChange]) -> None:
    state = "set aside" if file.is_aside else "mounted" if file.folder.status is not None else "not mounted"
    size = sum(change.size_bytes for change in changes)
    say(f"{file.folder.title} ({state}): {counted(len(changes), 'change')}, {human_bytes(size)}, in {file.path}")
    for change in changes:
        say(f"  {describe_change(change)}")
    if file.unreadable:
        say(f"  ! {counted(file.unreadable, 'row')} can't be read")
    if file.problem:
        say(f"  ! {file.problem}")


def _saved(saved: Saved) -> str:
    if saved.path is None:
        return f"{saved.key} is not saved: {saved.reason}"
    missing = f"; {human_bytes(saved.missing_bytes)} of it are only in the Space" if saved.missing_bytes else ""
    return f"{saved.path}: {human_bytes(saved.size_bytes)}{missing}"
