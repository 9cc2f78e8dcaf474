"""The journals that commands speak of: those of mounts, and those that no mount has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spacesfs.cli.client import ask_status, serving
from spacesfs.cli.layers import collect
from spacesfs.cli.paths import names_space, resolved, split_space
from spacesfs.config import Options, SpaceConfig
from spacesfs.errors import MountError
from spacesfs.fuse.messages import MountStatus
from spacesfs.fuse.sockets import live_sockets
from spacesfs.pending.statedir import Identity, folders, pending_in


@dataclass(frozen=True, slots=True)
class JournalFolder:
    """A state folder: whose it is, and the mount that has it, as far as we may ask it."""

    identity: Identity
    path: Path
    control: Path | None = None
    status: MountStatus | None = None

    @property
    def title(self) -> str:
        """Name it for people."""
        return f"{self.identity.space} on {self.status.mountpoint}" if self.status else self.identity.space


def state_dir_of(flags: dict[str, object]) -> Path:
    """Return where journals are, by flags, environment and files."""
    return collect({"state_dir": flags.get("state_dir")}, None).check(Options).state_dir


def journal_folders(target: str | None, state_dir: Path) -> list[JournalFolder]:
    """Return the journals of a Space or a mount, or all that there are.

    Raises:
        MountError: There is none that fits.
    """
    every = list(_mounted())
    seen = {found.path for found in every}
    every += [JournalFolder(identity, path) for path, identity in folders(state_dir) if path not in seen]
    if target is None:
        return every
    if names_space(target):
        bucket, prefix = split_space(target)
        fitting = [one for one in every if (one.identity.bucket, one.identity.prefix) == (bucket, prefix)]
    else:
        mountpoint, _ = serving(resolved(target))
        fitting = [one for one in every if one.status is not None and one.status.mountpoint == str(mountpoint)]
    if not fitting:
        raise MountError(f"no journal of {target} is in {state_dir}; `spacesfs pending list` shows what is there")
    return fitting


def waiting_unmounted(state_dir: Path) -> list[JournalFolder]:
    """Return the journals with changes that no mount sends."""
    return [one for one in journal_folders(None, state_dir) if one.status is None and pending_in(one.path) != 0]


def config_for(journal: JournalFolder, flags: dict[str, object]) -> SpaceConfig:
    """Return the configuration under which a journal's changes are sent, to where they were meant to go."""
    identity = journal.identity
    flags = flags | {"endpoint": identity.endpoint, "state_dir": str(journal.path.parent)}
    return collect(flags, identity.bucket).check(SpaceConfig, bucket=identity.bucket, prefix=identity.prefix)


def _mounted() -> Iterator[JournalFolder]:
    for control in live_sockets():
        try:
            status = ask_status(control)
        except MountError:
            continue
        identity = Identity(status.endpoint, status.bucket, status.prefix)
        yield JournalFolder(identity, Path(status.journal), control, status)
