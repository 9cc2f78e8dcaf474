"""What is committed is there after reopening; what waits together shares a transaction."""

from __future__ import annotations

import stat
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import msgspec
import pytest
import trio

from spacesfs.client.models import ObjectProperties
from spacesfs.content.extents import Extent
from spacesfs.content.records import ContentRecord, SentPart, UploadRecord
from spacesfs.errors import FsError, MountError
from spacesfs.pending.changes import (
    Change,
    DropContent,
    DropIntent,
    DropParts,
    DropUpload,
    SaveContent,
    SaveFact,
    SaveIntent,
    SavePart,
    SaveUpload,
    decode_intent,
    encode_intent,
)
from spacesfs.pending.intents import Intent, Present
from spacesfs.pending.journal import Journal
from spacesfs.pending.schema import Recovered
from spacesfs.pending.statedir import Identity
from tests.pending.rows import IDENTITY, absent, file, present

UPLOAD = UploadRecord("big", 7, "upload-id", 5.5)
PARTS = tuple(SentPart(number, Extent(number * 10, number * 10 + 10), f"etag-{number}") for number in (1, 2, 3))


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Journal]:
    journal = Journal.open(folder, IDENTITY)
    try:
        yield journal
    finally:
        await journal.aclose()


async def recovered(folder: Path, *changes: Change) -> Recovered:
    """Commit changes, close, and return what the next mount finds."""
    async with opened(folder) as journal:
        await journal.commit(*changes)
    async with opened(folder) as journal:
        return journal.recovered


@pytest.mark.parametrize(
    "intent",
    [
        present("a"),
        absent("d/"),
        present("\0 odd \N{SNOWMAN}", content=5),
        Intent("k", 1 << 62, Present(1 << 42), None, 0.0),
        Intent("k", 0, Present(0, properties=ObjectProperties(metadata=MappingProxyType({"a": "\u00e9"}))), None, 1e9),
    ],
    ids=["present", "absent", "odd name", "large", "read-only mapping"],
)
async def test_an_intent_comes_back(tmp_path: Path, intent: Intent) -> None:
    found = await recovered(tmp_path, SaveIntent(intent))
    assert found.intents == {intent.key: intent}
    assert found.notices == []


def test_fields_that_a_later_version_added_are_passed_over() -> None:
    body = msgspec.msgpack.decode(encode_intent(present("a")))
    body["later"] = [1, 2]
    body["present"]["later"] = {"x": None}
    assert decode_intent("a", msgspec.msgpack.encode(body)) == present("a")


async def test_a_staged_content_comes_back(tmp_path: Path) -> None:
    record = ContentRecord(9, 1 << 40, None, (Extent(0, 5),), (Extent(0, 5), Extent(7, 1 << 40)), (Extent(1, 2),))
    assert (await recovered(tmp_path, SaveContent(record))).contents == {9: record}


async def test_bytes_of_a_small_content_are_read_when_wanted(tmp_path: Path) -> None:
    await recovered(tmp_path, *file("a", 3, b"abc"), *file("empty", 4, b""))
    async with opened(tmp_path) as journal:
        assert journal.recovered.contents == {3: ContentRecord(3, 3, b""), 4: ContentRecord(4, 0, b"")}
        assert (await journal.inline(3), await journal.inline(4)) == (b"abc", b"")
        journal.post(*file("a", 5, b"newer"))
        assert await journal.inline(5) == b"newer"
        journal.post(DropContent(5))
        with pytest.raises(FsError, match="no bytes of content 5"):
            await journal.inline(5)


async def test_an_upload_comes_back_with_its_parts(tmp_path: Path) -> None:
    changes: list[Change] = [SaveUpload(UPLOAD), *(SavePart(7, part) for part in PARTS), SavePart(8, PARTS[0])]
    assert (await recovered(tmp_path, *changes)).uploads == {7: replace(UPLOAD, parts=PARTS)}
    assert (await recovered(tmp_path, DropParts(7, (1, 3)))).uploads == {7: replace(UPLOAD, parts=PARTS[1:2])}
    assert (await recovered(tmp_path, DropUpload(7), SaveUpload(UPLOAD), SavePart(7, PARTS[2]))).uploads == {
        7: replace(UPLOAD, parts=PARTS[2:])
    }
    assert (await recovered(tmp_path, SavePart(7, PARTS[0]), DropUpload(7))).uploads == {}


async def test_facts_come_back(tmp_path: Path) -> None:
    assert (await recovered(tmp_path, SaveFact("a", "1"), SaveFact("b", ""), SaveFact("a", "2"))).facts == {
        "a": "2",
        "b": "",
    }


async def test_the_last_change_of_a_row_counts(tmp_path: Path) -> None:
    found = await recovered(
        tmp_path,
        SaveIntent(present("a", order=1)),
        DropIntent("a"),
        SaveIntent(present("b", order=1)),
        SaveIntent(present("b", order=2)),
        SaveIntent(absent("c")),
        DropIntent("c"),
        DropIntent("never there"),
        *file("d", 1, b"x"),
        DropContent(1),
    )
    assert {key: intent.order for key, intent in found.intents.items()} == {"b": 2, "d": 1}
    assert found.contents == {}
    assert (await recovered(tmp_path, DropIntent("b"), DropIntent("d"))).intents == {}


async def test_posts_are_in_order_with_commits(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.post(SaveIntent(present("a", order=1)))
        await journal.commit(SaveIntent(present("a", order=2)))
        journal.post(SaveIntent(present("a", order=3)))
    async with opened(tmp_path) as journal:
        assert journal.recovered.intents["a"].order == 3


async def test_those_who_wait_share_a_transaction(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.commit()
        before = journal.statistics()
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(journal.commit, *file(f"f{number}", number, b"x"))
        after = journal.statistics()
    assert after.commits - before.commits == 200
    assert after.rows - before.rows == 400
    assert 1 <= after.transactions - before.transactions <= 10
    async with opened(tmp_path) as journal:
        assert len(journal.recovered.intents) == 200


@pytest.mark.parametrize(
    "change",
    [
        SaveIntent(present("\udc80")),
        SaveIntent(present("a", size=1 << 64)),
        SaveContent(ContentRecord(1, 5, b"four")),
        SaveFact("name", "\udc80"),
    ],
    ids=["key", "number", "bytes", "fact"],
)
async def test_what_cannot_be_stored_fails_alone(tmp_path: Path, change: Change) -> None:
    async with opened(tmp_path) as journal:
        journal.post(SaveIntent(present("before")))
        with pytest.raises((ValueError, OverflowError)):
            await journal.commit(SaveIntent(present("with it")), change)
        await journal.commit(SaveIntent(present("after")))
        assert journal.statistics().degraded is None
    async with opened(tmp_path) as journal:
        assert set(journal.recovered.intents) == {"before", "after"}


async def test_changes_of_the_cancelled_are_made(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        with trio.CancelScope() as scope:
            scope.cancel()
            await journal.commit(SaveIntent(present("a")))
        assert scope.cancelled_caught
    async with opened(tmp_path) as journal:
        assert set(journal.recovered.intents) == {"a"}


async def test_numbers_are_never_used_twice(tmp_path: Path) -> None:
    seen: set[int] = set()
    for _ in range(3):
        async with opened(tmp_path) as journal:
            numbers = [journal.next_content_number() for _ in range(5)]
            assert seen.isdisjoint(numbers)
            assert len(set(numbers)) == 5
            seen.update(numbers)
            await journal.commit(SaveContent(ContentRecord(numbers[4], 0, b"")), DropContent(numbers[4]))


async def test_numbers_go_on_above_what_is_there_when_the_clock_went_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as journal:
        number = journal.next_content_number()
    monkeypatch.setattr("time.time", lambda: 0.0)
    async with opened(tmp_path) as journal:
        assert journal.next_content_number() > number


async def test_nothing_can_be_asked_of_a_closed_journal(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, IDENTITY)
    journal.post(SaveIntent(present("a")))
    await journal.aclose()
    await journal.aclose()
    with pytest.raises(trio.ClosedResourceError):
        journal.post(SaveIntent(present("b")))
    with pytest.raises(trio.ClosedResourceError):
        await journal.commit(SaveIntent(present("b")))


async def test_the_thread_ends(tmp_path: Path) -> None:
    async with opened(tmp_path):
        assert "journal" in {thread.name for thread in threading.enumerate()}
    for thread in threading.enumerate():
        if thread.name == "journal":
            thread.join(10)
            assert not thread.is_alive()


async def test_the_journal_of_another_space_is_refused(tmp_path: Path) -> None:
    await recovered(tmp_path, SaveIntent(present("a")))
    with pytest.raises(MountError, match=r"belongs to https://ams3\.example\.org bucket:, not to .* other:p/"):
        Journal.open(tmp_path, Identity(IDENTITY.endpoint, "other", "p/"))


async def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.commit(SaveIntent(present("a")))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}  # noqa: ASYNC240 - local
    assert modes == dict.fromkeys(["journal.db", "journal.db-wal", "journal.db-shm", "reserve"], 0o600)


async def test_the_file_shrinks_again(tmp_path: Path) -> None:
    keys = [f"{number:0200}" for number in range(120_000)]
    async with opened(tmp_path) as journal:
        await journal.commit(*(SaveIntent(absent(key)) for key in keys))
        most = journal.statistics().file_bytes
        await journal.commit(*(DropIntent(key) for key in keys))
        for number in range(40 * 256):
            journal.post(SaveFact("count", str(number)))
            if number % 8 == 0:
                await journal.commit()
        assert journal.statistics().file_bytes < most
