"""The file system over a real server, without the kernel: when content goes out, and what happens between two hosts."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from types_boto3_s3 import S3Client

from spacesfs.client.call import Call
from spacesfs.client.errors import ServerFault
from spacesfs.errors import Exists, IsDirectory, NotFound, StaleFile
from spacesfs.filesystem import AttributeChange
from spacesfs.tree.inodes import ROOT_NUMBER
from tests.assembled import ME, Hold, Host, assemble
from tests.servers.rgw import RadosGateway

MIB = 1 << 20


@pytest.fixture
async def host(rgw: RadosGateway, bucket_name: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with assemble(rgw, bucket_name, tmp_path) as host:
        yield host


@pytest.fixture
async def forgetful(rgw: RadosGateway, bucket_name: str, tmp_path: Path) -> AsyncIterator[Host]:
    """A host that remembers nothing of the Space: its listings are never kept."""
    async with assemble(rgw, bucket_name, tmp_path, ttl_seconds=0) as host:
        yield host


@pytest.fixture
def space(s3: S3Client, bucket_name: str) -> Space:
    return Space(s3, bucket_name)


class Space:
    """What another client sees and does."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def put(self, key: str, body: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body)

    def publish(self, key: str, body: bytes) -> None:
        self._s3.put_object(
            Bucket=self._bucket, Key=key, Body=body, ACL="public-read", ContentType="text/x-c", Metadata={"x": "y"}
        )

    def make_private(self, key: str) -> None:
        self._s3.put_object_acl(Bucket=self._bucket, Key=key, ACL="private")

    def is_public(self, key: str) -> bool:
        return len(self._s3.get_object_acl(Bucket=self._bucket, Key=key)["Grants"]) > 1

    def properties(self, key: str) -> tuple[str, str | None]:
        """Return the type and the metadata ``x``."""
        head = self._s3.head_object(Bucket=self._bucket, Key=key)
        return head["ContentType"], head["Metadata"].get("x")

    def remove(self, key: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=key)

    def get(self, key: str) -> bytes:
        return self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def keys(self) -> list[str]:
        return [entry["Key"] for entry in self._s3.list_objects_v2(Bucket=self._bucket).get("Contents", ())]

    def contents(self) -> dict[str, bytes]:
        return {key: self.get(key) for key in self.keys()}


def conflict_of(space: Space, name: str) -> bytes:
    """Return what is kept beside ``name``; there must be exactly one."""
    kept = [key for key in space.contents() if key.startswith(f"{name}.conflict-{os.uname().nodename}-")]
    assert len(kept) == 1
    return space.get(kept[0])


# --- when content goes out


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
    assert host.sent()["PutObject"] == 2


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
    await host.close(handle)
    assert host.sent()["PutObject"] == 1


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
    assert host.staging.used_bytes == 0


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
    assert host.staging.used_bytes == 0


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
    assert host.staging.used_bytes == 0


# --- two hosts


async def test_a_change_by_another_host_is_not_overwritten(host: Host, space: Space) -> None:
    space.put("f", b"first")
    handle = await host.open("f")
    await host.fs.files.write(handle, 0, b"ours!")
    space.put("f", b"theirs")
    with pytest.raises(StaleFile):
        await host.fs.files.flush(handle)
    await host.fs.files.release(handle)
    assert space.get("f") == b"theirs"
    assert conflict_of(space, "f") == b"ours!"
    assert await host.read("f") == b"theirs"
    assert host.fs.files.unpublished() == []


async def test_two_hosts_create_one_file(host: Host, space: Space) -> None:
    handle = await host.create("f", b"ours")
    space.put("f", b"theirs")
    with pytest.raises(StaleFile):
        await host.fs.files.flush(handle)
    await host.fs.files.release(handle)
    assert space.get("f") == b"theirs"
    assert conflict_of(space, "f") == b"ours"
    assert sorted(await host.names()) == sorted(space.keys())


async def test_after_a_conflict_the_writer_goes_on_with_its_own_file(host: Host, space: Space) -> None:
    handle = await host.create("f", b"ours")
    space.put("f", b"theirs")
    with pytest.raises(StaleFile):
        await host.fs.files.fsync(handle)
    await host.fs.files.write(handle, 4, b" and more")
    await host.close(handle)
    assert space.get("f") == b"theirs"
    assert conflict_of(space, "f") == b"ours and more"


async def test_a_change_by_another_host_that_was_seen_meanwhile(forgetful: Host, space: Space) -> None:
    handle = await forgetful.create("f", b"first")
    await forgetful.fs.files.fsync(handle)
    space.put("f", b"theirs")
    assert await forgetful.read("f") == b"theirs"  # the name stands for their version now
    await forgetful.fs.files.write(handle, 0, b"ours!")
    with pytest.raises(StaleFile):
        await forgetful.fs.files.flush(handle)
    await forgetful.fs.files.release(handle)
    assert space.get("f") == b"theirs"
    assert conflict_of(space, "f") == b"ours!"


async def test_a_change_by_another_host_that_getattr_met(forgetful: Host, space: Space) -> None:
    handle = await forgetful.create("f", b"first")
    await forgetful.fs.files.fsync(handle)
    space.put("f", b"theirs")
    inode = forgetful.fs.files.handle(handle).opened.inode
    with pytest.raises(StaleFile):
        await forgetful.fs.getattr(inode.number)
    await forgetful.fs.files.write(handle, 0, b"ours!")
    with pytest.raises(StaleFile):
        await forgetful.fs.files.flush(handle)
    await forgetful.fs.files.release(handle)
    assert space.get("f") == b"theirs"
    assert conflict_of(space, "f") == b"ours!"


async def test_the_first_write_into_a_version_that_is_gone_fails(forgetful: Host, space: Space) -> None:
    space.put("f", b"first")
    handle = await forgetful.open("f")
    space.put("f", b"theirs")
    with pytest.raises(StaleFile):
        await forgetful.fs.files.write(handle, 5, b" and ours")
    await forgetful.close(handle)
    assert space.contents() == {"f": b"theirs"}
    assert forgetful.fs.files.unpublished() == []
    assert forgetful.staging.used_bytes == 0


async def test_readers_never_see_two_versions(host: Host, space: Space) -> None:
    space.put("f", b"a" * (3 * MIB))
    handle = await host.open("f", os.O_RDONLY)
    assert await host.fs.read(handle, 0, 4096) == b"a" * 4096
    await trio.testing.wait_all_tasks_blocked(0.05)
    space.put("f", b"b" * (3 * MIB))
    for offset in range(0, 3 * MIB, 512 * 1024):
        try:
            assert set(await host.fs.read(handle, offset, 4096)) == {ord("a")}
        except StaleFile:
            continue
    await host.close(handle)


async def test_a_version_that_came_between_is_another_inode(forgetful: Host, space: Space) -> None:
    space.put("f", b"first")
    before = await forgetful.fs.lookup(ROOT_NUMBER, b"f")
    space.put("f", b"second")
    after = await forgetful.fs.lookup(ROOT_NUMBER, b"f")
    assert before.number != after.number
    assert not before.is_linked


async def test_a_delayed_delete_leaves_a_newer_version(host: Host, space: Space) -> None:
    space.put("f", b"first")
    handle = await host.open("f", os.O_RDONLY)
    await host.fs.names.unlink(ROOT_NUMBER, b"f")
    space.put("f", b"second")
    await host.close(handle)
    assert space.contents() == {"f": b"second"}


async def test_a_partial_overwrite_that_loses_is_kept_whole(host: Host, space: Space) -> None:
    space.put("f", b"first one")
    handle = await host.open("f")
    await host.fs.files.write(handle, 2, b"OURS")
    space.put("f", b"theirs")
    with pytest.raises(StaleFile):
        await host.fs.files.flush(handle)
    await host.fs.files.release(handle)
    assert space.get("f") == b"theirs"
    assert conflict_of(space, "f") == b"fiOURSone"
    assert host.fs.files.unpublished() == []


@pytest.mark.parametrize("name", ["n" * 250, "é" * 127])
async def test_what_is_kept_beside_a_long_name_can_be_seen(host: Host, space: Space, name: str) -> None:
    handle = await host.create(name, b"ours")
    space.put(name, b"theirs")
    with pytest.raises(StaleFile):
        await host.fs.files.flush(handle)
    await host.fs.files.release(handle)
    (kept,) = set(space.contents()) - {name}
    assert space.get(kept) == b"ours"
    assert sorted(await host.names()) == sorted([name, kept])


async def test_a_rewrite_keeps_what_others_gave_the_object(host: Host, space: Space) -> None:
    space.publish("f", b"first")
    handle = await host.open("f")
    await host.fs.files.write(handle, 0, b"ours")
    await host.close(handle)
    await _chmod(host, "f", 0o600)
    await _rename(host, "f", "g")
    assert (space.get("g"), space.properties("g"), space.is_public("g")) == (b"ourst", ("text/x-c", "y"), True)


async def test_what_was_made_private_is_not_made_public_again(forgetful: Host, space: Space) -> None:
    space.publish("f", b"secret")
    await _chmod(forgetful, "f", 0o600)
    assert space.is_public("f")
    space.make_private("f")
    await _chmod(forgetful, "f", 0o640)
    assert not space.is_public("f")
    space.publish("f", b"secret")
    await _chmod(forgetful, "f", 0o600)
    space.make_private("f")
    await _rename(forgetful, "f", "g")
    assert not space.is_public("g")


# --- renaming and removing


async def test_renaming_an_unpublished_file_costs_no_copy(host: Host, space: Space) -> None:
    handle = await host.create("tmp", b"content")
    host.sent()
    await host.fs.names.rename(ROOT_NUMBER, b"tmp", ROOT_NUMBER, b"final", may_replace=True)
    await host.close(handle)
    assert space.contents() == {"final": b"content"}
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
        nursery.start_soon(_rename, host, "tmp", "final")
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
    assert space.keys() == ["x/"]


async def test_an_unlinked_open_file_does_not_come_back_with_its_directory(host: Host, space: Space) -> None:
    directory = await host.fs.names.mkdir(ROOT_NUMBER, b"d", 0o755, ME.uid, ME.gid)
    await host.write("gone", b"x", directory.number)
    await host.write("stays", b"y", directory.number)
    handle = await host.open("gone", os.O_RDONLY, directory.number)
    await host.fs.names.unlink(directory.number, b"gone")
    await _rename(host, "d", "e")
    assert await host.names(directory.number) == ["stays"]
    await host.close(handle)
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
        nursery.start_soon(_look, host, "f")
        await hold.arrived.wait()
        await host.fs.files.write(handle, 0, b"ours!")
        await host.fs.files.flush(handle)
        hold.opened.set()
    await host.fs.files.write(handle, 5, b" more")
    await host.close(handle)
    assert space.get("f") == b"ours! more"


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
    assert host.staging.used_bytes == 0
    assert host.budget.used_bytes == 0


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
    (waiting,) = host.fs.files.unpublished()
    assert (waiting.inode.key, waiting.attempts, waiting.handles) == ("f", 2, 0)
    assert "out of order" in waiting.error
    assert await host.read("f") == b"precious"
    assert await host.names() == ["f"]
    assert space.keys() == []
    with trio.fail_after(30):
        while host.fs.files.unpublished():  # noqa: ASYNC110 - the retry is a background task's
            await trio.sleep(0.05)
    assert failures == 0
    assert space.contents() == {"f": b"precious"}
    assert host.staging.used_bytes == 0


async def test_sync_names_what_is_left_and_brings_it(host: Host, space: Space) -> None:
    first, second = await host.create("a", b"12345"), await host.create("b", b"123")
    steps = [step async for step in host.fs.sync("")]
    assert steps[0] == (2, 8, 8)
    assert steps[-1] == (0, 0, 8)
    assert space.contents() == {"a": b"12345", "b": b"123"}
    await host.close(first)
    await host.close(second)


async def test_sync_of_a_path_brings_only_that(host: Host, space: Space) -> None:
    directory = await host.fs.names.mkdir(ROOT_NUMBER, b"d", 0o755, ME.uid, ME.gid)
    handles = [await host.create("f", b"1", parent=directory.number), await host.create("d2", b"2")]
    assert [step async for step in host.fs.sync("d")][-1] == (0, 0, 1)
    assert space.keys() == ["d/", "d/f"]
    for handle in handles:
        await host.close(handle)


async def test_a_failed_open_leaves_no_lookup_behind(host: Host) -> None:
    directory = await host.fs.names.mkdir(ROOT_NUMBER, b"d", 0o755, ME.uid, ME.gid)
    before = directory.lookups
    with pytest.raises(IsDirectory):
        await host.create("d")
    assert directory.lookups == before


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


async def _rename(host: Host, name: str, new_name: str) -> None:
    await host.fs.names.rename(ROOT_NUMBER, name.encode(), ROOT_NUMBER, new_name.encode(), may_replace=True)


async def _look(host: Host, name: str) -> None:
    await host.fs.lookup(ROOT_NUMBER, name.encode())


async def _chmod(host: Host, name: str, mode: int) -> None:
    inode = await host.fs.lookup(ROOT_NUMBER, name.encode())
    await host.fs.setattr(inode.number, AttributeChange(mode=mode), None)
