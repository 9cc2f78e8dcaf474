"""Two hosts and one bucket: nothing is silently overwritten, nothing is silently lost."""

from __future__ import annotations

import os

import pytest
import trio

from spacesfs.client.call import Call
from spacesfs.errors import StaleFile
from spacesfs.pending.intents import Present
from spacesfs.tree.inodes import ROOT_NUMBER
from tests.filesystem.assembled import Host, Space

MIB = 1 << 20


def conflict_of(space: Space, name: str) -> bytes:
    """Return what is kept beside ``name``; there must be exactly one."""
    kept = [key for key in space.contents() if key.startswith(f"{name}.conflict-{os.uname().nodename}-")]
    assert len(kept) == 1
    return space.get(kept[0])


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
    assert host.unsent() == []


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
    assert forgetful.unsent() == []
    assert forgetful.parts.staging.used_bytes == 0


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
    assert host.unsent() == []


async def test_what_is_kept_beside_needs_nothing_of_the_version_that_was_replaced(host: Host, space: Space) -> None:
    """Else it and the next change of the name would wait for each other, for good."""
    space.put("f", b"first")
    handle = await host.open("f")
    await host.fs.files.write(handle, 0, b"ours!")
    space.put("f", b"theirs")
    sources: set[object] = set()

    async def look(_: Call) -> None:
        wants = (intent.want for intent in host.parts.ledger.overlay if intent.key.startswith("f.conflict-"))
        sources.update(want.source for want in wants if isinstance(want, Present))

    host.wire.before = look
    with pytest.raises(StaleFile):
        await host.fs.files.flush(handle)
    await host.fs.files.release(handle)
    await host.settle()
    assert sources == {None}
    assert conflict_of(space, "f") == b"ours!"


async def test_a_large_file_whose_upload_had_begun_is_kept_beside_once(host: Host, space: Space) -> None:
    """The upload goes to the name that is theirs now; ours begins anew."""
    handle = await host.create("f")
    piece = os.urandom(MIB)
    for number in range(20):
        await host.fs.files.write(handle, number * MIB, piece)
    await trio.testing.wait_all_tasks_blocked(0.2)
    assert any(call.operation == "CreateMultipartUpload" for call in host.wire.calls)
    space.put("f", b"theirs")
    with pytest.raises(StaleFile):
        await host.fs.files.flush(handle)
    await host.fs.files.release(handle)
    await host.settle()
    assert space.get("f") == b"theirs"
    assert conflict_of(space, "f") == piece * 20
    assert host.unsent() == []


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
    await host.chmod("f", 0o600)
    await host.rename("f", "g")
    assert (space.get("g"), space.properties("g"), space.is_public("g")) == (b"ourst", ("text/x-c", "y"), True)


async def test_what_was_made_private_is_not_made_public_again(forgetful: Host, space: Space) -> None:
    space.publish("f", b"secret")
    await forgetful.chmod("f", 0o600)
    assert space.is_public("f")
    space.make_private("f")
    await forgetful.chmod("f", 0o640)
    assert not space.is_public("f")
    space.publish("f", b"secret")
    await forgetful.chmod("f", 0o600)
    space.make_private("f")
    await forgetful.rename("f", "g")
    assert not space.is_public("g")
