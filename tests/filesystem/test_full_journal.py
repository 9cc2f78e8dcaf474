"""A journal that has no room: what it refused is not called safe later."""

from __future__ import annotations

import pytest

from spacesfs.errors import NoSpace
from spacesfs.pending.changes import Change
from spacesfs.pending.journal import Journal
from tests.filesystem.assembled import Host, Space


async def test_what_was_refused_is_refused_again_until_it_is_safe(
    host: Host, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await host.create("f", b"content")

    async def refuse(*_: Change) -> None:
        raise NoSpace

    with monkeypatch.context() as full:
        full.setattr(Journal, "commit", refuse)
        for _ in range(2):
            with pytest.raises(NoSpace):
                await host.fs.files.fsync(handle)
    await host.fs.files.fsync(handle)
    await host.close(handle)
    assert space.get("f") == b"content"
