"""When content goes to the Space, how much of it, and what happens when it can not."""

from __future__ import annotations

import os

import pytest
import trio

from spacesfs.client.call import Call
from spacesfs.client.errors import ServerFault
from spacesfs.errors import Exists, IsDirectory, NotFound
from spacesfs.pending.scheduler import Left
from spacesfs.tree.inodes import ROOT_NUMBER
from tests.filesystem.assembled import ME, Host, Space

MIB = 1 << 20


async def test_a_flush_before_the_first_write_publishes_nothing(host: Host, space: Space) -> None:
    handle = await host.create("f")
    await host.fs.files.flush(handle)
    assert space.keys() == []
    await host.fs.files.write(handle, 0, b"one")
    await host.fs.files.flush(handle)
    assert space.contents() == {"f": b"one"}
    await host.fs.files.write(handle, 3, b" two")
    assert space.contents() == {"f": b"one"}
    await host.fs.files.release(handle)
    assert space.contents() == {"f": b"one two"}
    assert host.sent()["PutObject"] == 3  # one was refused: so it was learned that the bucket honours conditions


async def test_a_flush_before_the_first_write_keeps_what_was_truncated(host: Host, space: Space) -> None:
    space.put("f", b"old content")
    handle = await host.open("f", os.O_WRONLY | os.O_TRUNC)
    await host.fs.files.flush(handle)
    assert space.get("f") == b"old content"
    await host.close(handle)
    assert space.get("f") == b""


async def test_an_empty_file_is_published_at_its_release(host: Host, space: Space) -> None:
    await host.close(await host.create("empty"))
    assert space.contents() == {"empty": b""}


async def test_fsync_publishes(host: Host, space: Space) -> None:
    handle = await host.create("f", b"one")
    await host.fs.files.fsync(handle)
    assert space.contents() == {"f": b"one"}
    host.sent()
    await host.close(handle)
    assert host.sent()["PutObject"] == 0


async def test_what_is_clean_is_not_sent_again(host: Host, space: Space) -> None:
    await host.write("f", b"one")
    host.sent()
    handle = await host.open("f")
    await host.fs.files.fsync(handle)
    await host.close(handle)
    assert host.sent()["PutObject"] == 0


async def test_a_file_unlinked_before_its_release_is_never_sent(host: Host, space: Space) -> None:
    handle = await host.create("f", b"for nobody")
    await host.fs.names.unlink(ROOT_NUMBER, b"f")
    await host.fs.files.fsync(handle)
    assert await host.fs.read(handle, 0, 100) == b"for nobody"
    await host.close(handle)
    assert space.keys() == []
    sent = host.sent()
    assert (sent["PutObject"], sent["DeleteObject"]) == (0, 0)
    assert host.parts.staging.used_bytes == 0


async def test_exclusive_creation_claims_the_name_at_once(host: Host, space: Space) -> None:
    handle = await host.create("lock", flags=os.O_EXCL)
    assert space.contents() == {"lock": b""}
    with pytest.raises(Exists):
        await host.create("lock", flags=os.O_EXCL)
    await host.fs.files.write(handle, 0, b"mine")
    await host.close(handle)
    assert space.contents() == {"lock": b"mine"}


async def test_exclusive_creation_loses_to_another_host(host: Host, space: Space) -> None:
    with pytest.raises(NotFound):
        await host.fs.lookup(ROOT_NUMBER, b"lock")  # remembered as absent
    space.put("lock", b"theirs")
    with pytest.raises(Exists):
        await host.create("lock", flags=os.O_EXCL)
    assert space.contents() == {"lock": b"theirs"}
    assert await host.read("lock") == b"theirs"
    assert host.parts.staging.used_bytes == 0


async def test_what_was_written_is_read_before_and_after_it_is_sent(host: Host) -> None:
    handle = await host.create("f", b"0123456789")
    await host.fs.files.write(handle, 4, b"four")
    other = await host.open("f", os.O_RDONLY)
    assert await host.fs.read(other, 2, 100) == b"23four89"
    await host.fs.files.fsync(handle)
    assert await host.fs.read(other, 2, 100) == b"23four89"
    await host.close(handle)
    assert await host.fs.read(other, 8, 100) == b"89"
    await host.close(other)
    assert host.parts.staging.used_bytes == 0


# --- large files


async def test_an_edit_of_a_large_object_sends_only_the_parts_it_touches(host: Host, space: Space) -> None:
    body = bytearray(os.urandom(40 * MIB))
    space.put("big", bytes(body))
    handle = await host.open("big")
    await host.fs.files.write(handle, 17 * MIB, b"here")
    body[17 * MIB : 17 * MIB + 4] = b"here"
    host.sent()
    calls = host.wire.calls
    await host.fs.files.flush(handle)
    uploaded = sum(len(call.body) for call in calls if call.operation == "UploadPart")
    fetched = sum(call.expected_bytes for call in calls if call.operation == "GetObject")
    await host.fs.files.release(handle)
    sent = host.sent()
    assert space.get("big") == body
    assert (sent["UploadPart"], sent["PutObject"]) == (1, 0)
    assert uploaded == 8 * MIB
    assert fetched == 8 * MIB - 4
    assert sent["UploadPartCopy"] == 2
    await host.frees_all()
    assert host.parts.reading.budget.used_bytes == 0


async def test_reading_a_byte_fetches_little(host: Host, space: Space) -> None:
    space.put("big", bytes(20 * MIB))
    handle = await host.open("big", os.O_RDONLY)
    assert await host.fs.read(handle, 19 * MIB, 1) == b"\0"
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert sum(call.expected_bytes for call in host.wire.calls) <= 2 * MIB
    await host.close(handle)


# --- failures


async def test_what_could_not_be_sent_is_kept_and_tried_again(host: Host, space: Space) -> None:
    failures = 3

    async def fail(call: Call) -> None:
        nonlocal failures
        if call.operation == "PutObject" and failures:
            failures -= 1
            raise ServerFault("out of order")

    host.wire.before = fail
    handle = await host.create("f", b"precious")
    with pytest.raises(ServerFault):
        await host.fs.files.flush(handle)
    await host.fs.files.release(handle)
    (waiting,) = host.parts.ledger.overlay
    assert waiting.key == "f"
    attempts, error = host.parts.ledger.scheduler.attempts("f")
    assert attempts == 2
    assert "out of order" in error
    assert await host.read("f") == b"precious"
    assert await host.names() == ["f"]
    assert space.keys() == []
    with trio.fail_after(30):
        while len(host.parts.ledger.overlay):  # noqa: ASYNC110 - the retry is a background task's
            await trio.sleep(0.05)
    assert failures == 0
    assert space.contents() == {"f": b"precious"}
    assert host.parts.staging.used_bytes == 0


async def test_sync_names_what_is_left_and_brings_it(host: Host, space: Space) -> None:
    first, second = await host.create("a", b"12345"), await host.create("b", b"123")
    steps = [step async for step in host.fs.sync("")]
    assert steps[0] == Left(2, 8)
    assert steps[-1] == Left(0, 0)
    assert space.contents() == {"a": b"12345", "b": b"123"}
    await host.close(first)
    await host.close(second)


async def test_sync_of_a_path_brings_only_that(host: Host, space: Space) -> None:
    directory = await host.fs.names.mkdir(ROOT_NUMBER, b"d", 0o755, ME.uid, ME.gid)
    handles = [await host.create("f", b"1", parent=directory.number), await host.create("d2", b"2")]
    assert [step async for step in host.fs.sync("d")][-1] == Left(0, 0)
    assert space.keys() == ["d/", "d/f"]
    for handle in handles:
        await host.close(handle)


async def test_a_failed_open_leaves_no_lookup_behind(host: Host) -> None:
    directory = await host.fs.names.mkdir(ROOT_NUMBER, b"d", 0o755, ME.uid, ME.gid)
    before = directory.lookups
    with pytest.raises(IsDirectory):
        await host.create("d")
    assert directory.lookups == before
