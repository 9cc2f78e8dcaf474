"""A journal without its mount: what waits in it goes to the Space, or is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from spacesfs.assembly import assemble
from spacesfs.client.errors import SpacesError
from spacesfs.config import SpaceConfig
from spacesfs.errors import FsError, MountError
from spacesfs.pending.changes import DropIntent
from spacesfs.pending.intents import Intent
from spacesfs.pending.overlay import Overlay
from spacesfs.pending.scheduler import Left
from spacesfs.pending.selection import selected
from spacesfs.pending.statedir import StateFolder, pending_in
from spacesfs.standing import check_bucket
from spacesfs.start import Tell, claim, connected, mount_options, opened
from spacesfs.tasks import open_team

_POLL_SECONDS = 0.2


async def drain(config: SpaceConfig, tell: Tell, show: Callable[[Left], None]) -> None:
    """Bring all that waits in a journal to the Space. Each change gets one attempt.

    Args:
        config: Whose journal.
        tell: Told, should another process have it, who is waited for.
        show: Told what is left, until nothing is.

    Raises:
        MountError: The Space refuses or can't be reached; what it has not taken stays in the journal.
    """
    async with connected(config) as connection:
        refusal = await check_bucket(connection)
        if refusal is not None:
            raise MountError(f"nothing can be sent to {connection.identity.space}: {refusal}")
        folder = await claim(connection, tell)
        try:
            folder.note("sending what waits, without a mount")
            async with opened(folder, connection) as journal, open_team() as nursery:
                for notice in journal.recovered.notices:
                    tell(notice)
                parts = await assemble(connection.bucket, journal, folder.staged, mount_options(config), nursery)
                try:
                    async for left in parts.filesystem.sync(""):
                        show(left)
                except (FsError, SpacesError, OSError) as error:
                    if len(parts.ledger.overlay):
                        count = len(parts.ledger.overlay)
                        raise MountError(f"{count} changes are still not in the Space: {error}") from error
                    tell(str(error))  # a conflict: both versions are in the Space
                await _uploads_ended(folder, config.timeout)
                nursery.cancel_scope.cancel()
        finally:
            folder.release()


async def _uploads_ended(folder: StateFolder, timeout_seconds: float) -> None:
    """Wait for uploads that an earlier process left to be thrown away; what fails is left to the next mount."""
    with trio.move_on_after(timeout_seconds):
        while pending_in(folder.path):  # noqa: ASYNC110 - what is waited for is that rows are gone from the file
            await trio.sleep(_POLL_SECONDS)


async def drop(folder: StateFolder, keys: Iterable[str]) -> list[Intent]:
    """Forget what waits for keys, for good; return what that was.

    Raises:
        MountError: The journal can't be opened.
        NoSpace, FsError: It can't be written.
    """
    async with opened(folder) as journal:
        overlay = Overlay()
        for intent in journal.recovered.intents.values():
            overlay.put(intent)
        dropped = selected(overlay, keys)
        await journal.commit(*(DropIntent(intent.key) for intent in dropped))
    return dropped
