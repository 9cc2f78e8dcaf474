"""Renaming, removing and listing, also while content is on its way."""

from __future__ import annotations

import os
import stat

import pytest
import trio

from spacesfs.client.call import Call
from spacesfs.client.errors import ServerFault
from spacesfs.errors import Exists, NotFound
from spacesfs.tree.inodes import ROOT_NUMBER
from tests.filesystem.assembled import ME, Hold, Host, Space

MIB = 1 << 20


async def test_renaming_an_unpublished_file_costs_no_copy(host: Host, space: Space) -> None:
    await host.write("first", b"teaches what the bucket does")
    await host.settle()
    handle = await host.create("tmp", b"content")
    host.sent()
    await host.fs.names.rename(ROOT_NUMBER, b"tmp", ROOT_NUMBER, b"final", may_replace=True)
    await host.close(handle)
    assert space.get("final") == b"content"
    sent = host.sent()
    assert (sent["CopyObject"], sent["DeleteObject"], sent["PutObject"]) == (0, 0, 1)


async def test_a_rename_replaces_what_has_the_name(host: Host, space: Space) -> None:
    space.put("final", b"old")
    await host.write("tmp", b"new")
    with pytest.raises(Exists):
        await host.fs.names.rename(ROOT_NUMBER, b"tmp", ROOT_NUMBER, b"final", may_replace=False)
    await host.fs.names.rename(ROOT_NUMBER, b"tmp", ROOT_NUMBER, b"final", may_replace=True)
    assert space.contents() == {"final": b"new"}
    assert await host.read("final") == b"new"
    with pytest.raises(NotFound):
        await host.fs.lookup(ROOT_NUMBER, b"tmp")


async def test_a_rename_during_the_upload_moves_what_is_uploaded(host: Host, space: Space) -> None:
    handle = await host.create("tmp", b"content")
    host.wire.before = hold = Hold("PutObject")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.fs.files.flush, handle)
        await hold.arrived.wait()
        nursery.start_soon(host.rename, "tmp", "final")
        await trio.testing.wait_all_tasks_blocked(0.05)
        hold.opened.set()
    await host.fs.files.release(handle)
    assert space.contents() == {"final": b"content"}
    assert await host.read("final") == b"content"
    with pytest.raises(NotFound):
        await host.fs.lookup(ROOT_NUMBER, b"tmp")


async def test_a_file_written_while_it_is_sent_is_sent_again(host: Host, space: Space) -> None:
    handle = await host.create("f", b"one")
    host.wire.before = hold = Hold("PutObject")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.fs.files.flush, handle)
        await hold.arrived.wait()
        nursery.start_soon(host.fs.files.write, handle, 3, b" two")
        await trio.testing.wait_all_tasks_blocked(0.05)
        hold.opened.set()
    await host.close(handle)
    assert space.contents() == {"f": b"one two"}


async def test_a_name_made_again_while_the_unlinked_file_is_sent(host: Host, space: Space) -> None:
    first = await host.create("f", b"first")
    host.wire.before = hold = Hold("PutObject")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.fs.files.flush, first)
        await hold.arrived.wait()
        nursery.start_soon(host.fs.names.unlink, ROOT_NUMBER, b"f")
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.start_soon(host.write, "f", b"second")
        await trio.testing.wait_all_tasks_blocked(0.05)
        hold.opened.set()
    await host.fs.files.release(first)
    assert space.contents() == {"f": b"second"}


async def test_an_unlinked_open_file_is_read_to_its_last_release(host: Host, space: Space) -> None:
    space.put("f", b"x" * MIB)
    handle, other = await host.open("f", os.O_RDONLY), await host.open("f", os.O_RDONLY)
    await host.fs.names.unlink(ROOT_NUMBER, b"f")
    with pytest.raises(NotFound):
        await host.fs.lookup(ROOT_NUMBER, b"f")
    assert await host.names() == []
    assert await host.fs.read(handle, 0, MIB) == b"x" * MIB
    await host.close(handle)
    assert space.keys() == ["f"]
    assert await host.fs.read(other, MIB - 1, 10) == b"x"
    await host.close(other)
    await host.settle()
    assert space.keys() == []


async def test_a_directory_takes_the_name_of_an_unlinked_open_file(host: Host, space: Space) -> None:
    space.put("x", b"file")
    handle = await host.open("x", os.O_RDONLY)
    await host.fs.names.unlink(ROOT_NUMBER, b"x")
    directory = await host.fs.names.mkdir(ROOT_NUMBER, b"x", 0o755, ME.uid, ME.gid)
    assert (await host.fs.lookup(ROOT_NUMBER, b"x")).number == directory.number
    assert await host.names() == ["x"]
    assert await host.fs.read(handle, 0, 10) == b"file"
    await host.close(handle)
    await host.settle()
    assert space.keys() == ["x/"]


async def test_an_unlinked_open_file_does_not_come_back_with_its_directory(host: Host, space: Space) -> None:
    directory = await host.fs.names.mkdir(ROOT_NUMBER, b"d", 0o755, ME.uid, ME.gid)
    await host.write("gone", b"x", directory.number)
    await host.write("stays", b"y", directory.number)
    handle = await host.open("gone", os.O_RDONLY, directory.number)
    await host.fs.names.unlink(directory.number, b"gone")
    await host.rename("d", "e")
    assert await host.names(directory.number) == ["stays"]
    await host.close(handle)
    await host.settle()
    assert await host.names(directory.number) == ["stays"]
    assert space.keys() == ["e/", "e/stays"]


async def test_a_delete_that_fails_is_tried_again(host: Host, space: Space) -> None:
    failures = 2

    async def fail(call: Call) -> None:
        nonlocal failures
        if call.operation == "DeleteObject" and failures:
            failures -= 1
            raise ServerFault("out of order")

    space.put("f", b"x")
    handle = await host.open("f", os.O_RDONLY)
    await host.fs.names.unlink(ROOT_NUMBER, b"f")
    host.wire.before = fail
    await host.close(handle)
    with trio.fail_after(30):
        while space.keys():  # noqa: ASYNC110 - the retry is a background task's
            await trio.sleep(0.05)
    assert failures == 0


async def test_a_lookup_under_way_does_not_take_the_name_from_what_was_written(host: Host, space: Space) -> None:
    space.put("f", b"first")
    handle = await host.open("f")
    host.wire.after = hold = Hold("HeadObject")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.fs.lookup, ROOT_NUMBER, b"f")
        await hold.arrived.wait()
        await host.fs.files.write(handle, 0, b"ours!")
        await host.fs.files.flush(handle)
        hold.opened.set()
    await host.fs.files.write(handle, 5, b" more")
    await host.close(handle)
    assert space.get("f") == b"ours! more"


# --- directories


async def test_a_file_removed_during_a_listing_does_not_become_a_directory(host: Host, space: Space) -> None:
    for name in ("a", "b", "c"):
        space.put(name, b"x")
    handle = await host.fs.opendir(ROOT_NUMBER)
    await host.fs.names.unlink(ROOT_NUMBER, b"b")
    assert shown(host, handle) in (["a", "c"], ["a", "b", "c"])
    host.fs.releasedir(handle)


async def test_a_file_published_during_a_listing_does_not_become_a_directory(forgetful: Host, space: Space) -> None:
    writer = await forgetful.create("new", b"x")
    handle = await forgetful.fs.opendir(ROOT_NUMBER)
    await forgetful.close(writer)
    assert shown(forgetful, handle) == ["new"]
    forgetful.fs.releasedir(handle)


async def test_a_listing_from_before_a_write_does_not_take_the_name_away(forgetful: Host, space: Space) -> None:
    space.put("f", b"first")
    writer = await forgetful.open("f")
    handle = await forgetful.fs.opendir(ROOT_NUMBER)
    await forgetful.fs.files.write(writer, 0, b"ours!")
    await forgetful.fs.files.flush(writer)
    assert shown(forgetful, handle) == ["f"]
    forgetful.fs.releasedir(handle)
    await forgetful.fs.files.write(writer, 5, b" more")
    await forgetful.close(writer)
    assert space.get("f") == b"ours! more"


def shown(host: Host, handle: int) -> list[str]:
    """Return the names that a directory handle shows; all must be regular files."""
    entries = host.entries(handle)
    assert [name for name, mode in entries if not stat.S_ISREG(mode)] == []
    return [name for name, _ in entries]


async def test_objects_over_the_limit_of_one_copy(host: Host, space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are renamed and get other attributes by copies of parts, and keep all they carry."""
    monkeypatch.setattr("spacesfs.pending.executor.MAX_COPY_OBJECT_BYTES", 10 * MIB)
    content = os.urandom(21 * MIB)
    space.publish("big", content)
    await host.rename("big", "moved")
    await host.settle()
    assert space.keys() == ["moved"]
    await host.chmod("moved", 0o604)
    await host.settle()
    sent = host.sent()
    assert not sent["CopyObject"]
    assert sent["UploadPartCopy"] >= 2, sent
    assert space.get("moved") == content
    assert space.properties("moved") == ("text/x-c", "y")
    assert space.is_public("moved")
    inode = await host.fs.lookup(ROOT_NUMBER, b"moved")
    assert stat.S_IMODE(inode.attributes.mode) == 0o604
