"""The control socket over real sockets: what is asked is answered, and no client harms the mount."""

from __future__ import annotations

import logging
import os
import socket
import stat
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from spacesfs.cli.client import (
    ask_change,
    ask_drop,
    ask_drop_cache,
    ask_retry,
    ask_status,
    daemon_pid,
    refresh_mount,
    sync_steps,
)
from spacesfs.errors import MountError, NoSpace
from spacesfs.fuse import control, sockets
from spacesfs.fuse.control import serve_control
from spacesfs.fuse.messages import (
    MAX_REQUEST_BYTES,
    Change,
    Failed,
    MountStatus,
    PendingChange,
    Reply,
    RequestCounts,
    Status,
    Sync,
    SyncDone,
    SyncProgress,
    Usage,
    decode_reply,
    decode_request,
    encode_line,
)

STEPS = [SyncProgress(changes_left=left, bytes_left=left * 10, bytes_total=20) for left in (2, 1)]


def status_of(mountpoint: str = "/mnt/space") -> MountStatus:
    return MountStatus(
        bucket="my-bucket",
        prefix="some/",
        mountpoint=mountpoint,
        endpoint="https://fra1.digitaloceanspaces.com",
        pid=os.getpid(),
        version="1.2.3",
        state="serving",
        since=1.5,
        durability="space",
        read_only=False,
        read_only_reason=None,
        pending=[PendingChange("a\nb \u202e \x1b[31m", "write", 5, 0.5, 2, "no answer")],
        pending_changes=1,
        pending_bytes=5,
        memory=Usage(1, 2),
        staging=Usage(3, 4),
        requests={"read": RequestCounts(sent=7)},
        notices=["mind the gap"],
    )


@dataclass
class Mount:
    """A target that does as it is told."""

    answer: MountStatus = field(default_factory=status_of)
    failure: Exception | None = None
    blocks: bool = False
    asked: list[str | None] = field(default_factory=list)
    stopped: trio.Event = field(default_factory=trio.Event)

    async def status(self) -> MountStatus:
        if self.failure is not None:
            raise self.failure
        return self.answer

    async def sync(self, path: str | None) -> AsyncGenerator[SyncProgress, None]:
        self.asked.append(path)
        try:
            for step in STEPS:
                yield step
            if self.blocks:
                await trio.sleep_forever()
            if self.failure is not None:
                raise self.failure
        finally:
            self.stopped.set()

    def retry(self, paths: list[str]) -> int:
        self.asked += paths
        return len(paths)

    async def drop(self, paths: list[str]) -> int:
        if self.failure is not None:
            raise self.failure
        self.asked += paths
        return len(paths)

    async def refresh(self, path: str) -> bool:
        self.asked.append(path)
        return path == "d"

    async def drop_cache(self) -> None:
        self.asked.append("drop-cache")

    async def change(self, change: Change) -> None:
        if self.failure is not None:
            raise self.failure
        self.asked.append(f"{change.log_level} {change.limit_down} {change.limit_up}")


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """A short path: a socket's has at most 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "run" / "mount.sock"


@asynccontextmanager
async def serving(path: Path, target: Mount) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, path, target)
        yield
        nursery.cancel_scope.cancel()


async def converse(path: Path, sent: bytes, *, end: bool = False) -> list[Reply]:
    """Send bytes and return all replies until the server hangs up."""
    stream = await trio.open_unix_socket(path)
    async with stream:
        await stream.send_all(sent)
        if end:
            await stream.send_eof()
        received = b"".join([chunk async for chunk in stream])
    return [decode_reply(line) for line in received.splitlines()]


@pytest.mark.parametrize("ask", [ask_retry, ask_drop])
async def test_retry_and_drop(socket_path: Path, ask: Callable[[Path, list[str]], int]) -> None:
    mount = Mount()
    async with serving(socket_path, mount):
        assert await trio.to_thread.run_sync(ask, socket_path, ["a", "b/c"]) == 2
        assert mount.asked == ["a", "b/c"]


async def test_refresh(socket_path: Path) -> None:
    mount = Mount()
    async with serving(socket_path, mount):
        assert await trio.to_thread.run_sync(refresh_mount, socket_path, "d")
        assert not await trio.to_thread.run_sync(refresh_mount, socket_path, "")
    assert mount.asked == ["d", ""]


async def test_a_drop_that_fails(socket_path: Path) -> None:
    async with serving(socket_path, Mount(failure=MountError("a is open in the mount; close it first"))):
        with pytest.raises(MountError, match=r"^a is open in the mount; close it first$"):
            await trio.to_thread.run_sync(ask_drop, socket_path, ["a"])


async def test_status(socket_path: Path) -> None:
    async with serving(socket_path, Mount()):
        assert await converse(socket_path, encode_line(Status())) == [status_of()]


async def test_sync_streams_what_is_left(socket_path: Path) -> None:
    target = Mount()
    async with serving(socket_path, target):
        assert await converse(socket_path, encode_line(Sync("some/file"))) == [*STEPS, SyncDone()]
    assert target.asked == ["some/file"]


async def test_a_failed_sync_says_why(socket_path: Path) -> None:
    async with serving(socket_path, Mount(failure=NoSpace("the staging area is full"))):
        replies = await converse(socket_path, encode_line(Sync()))
    assert replies == [*STEPS, Failed("the staging area is full", "ENOSPC")]


async def test_the_clients_of_the_command_line(socket_path: Path) -> None:
    """They block, so each runs in a thread."""
    async with serving(socket_path, Mount()):
        assert await trio.to_thread.run_sync(ask_status, socket_path) == status_of()
        assert await trio.to_thread.run_sync(lambda: list(sync_steps(socket_path, None))) == STEPS
        assert await trio.to_thread.run_sync(daemon_pid, socket_path) == os.getpid()
    with pytest.raises(MountError, match="does not answer"):
        ask_status(socket_path)


async def test_a_failure_reaches_the_command_line_as_one_line(socket_path: Path) -> None:
    async with serving(socket_path, Mount(failure=MountError("the Space can't be reached; try later"))):
        with pytest.raises(MountError, match=r"^the Space can't be reached; try later$"):
            await trio.to_thread.run_sync(ask_status, socket_path)


async def test_a_bug_in_the_mount_is_an_answer(socket_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = Mount(failure=ZeroDivisionError("oops"))
    with caplog.at_level(logging.CRITICAL):
        async with serving(socket_path, target):
            assert await converse(socket_path, encode_line(Status())) == [Failed("oops", "EIO")]
            target.failure = None
            assert await converse(socket_path, encode_line(Status())) == [status_of()]


async def test_a_name_that_is_no_text_does_not_end_the_server(socket_path: Path) -> None:
    async with serving(socket_path, Mount(status_of("/mnt/\udcff"))):
        [reply] = await converse(socket_path, encode_line(Status()))
    assert isinstance(reply, Failed)
    assert reply.errno_name == "EILSEQ"


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"hello\n",
        b"{}\n",
        b'{"type":"mount"}\n',
        b'{"type":"sync","path":7}\n',
        b'"\xff"\n',
        b"[" * 20_000 + b"\n",
    ],
    ids=lambda line: repr(line[:24]),
)
async def test_nonsense_is_refused_and_the_next_client_served(socket_path: Path, line: bytes) -> None:
    async with serving(socket_path, Mount()):
        [reply] = await converse(socket_path, line)
        assert isinstance(reply, Failed)
        assert reply.errno_name == "EINVAL"
        assert await converse(socket_path, encode_line(Status())) == [status_of()]


async def test_a_request_without_end_is_refused(socket_path: Path) -> None:
    async with serving(socket_path, Mount()):
        [reply] = await converse(socket_path, b"x" * (MAX_REQUEST_BYTES + 1))
    assert reply == Failed("the request is too long", "EINVAL")


async def test_a_client_that_leaves_in_mid_request_is_forgotten(socket_path: Path) -> None:
    async with serving(socket_path, Mount()):
        assert await converse(socket_path, b'{"type":', end=True) == []
        assert await converse(socket_path, encode_line(Status())) == [status_of()]


async def test_a_client_that_says_nothing_is_hung_up_on(
    socket_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(socket_path, Mount()):
        assert await converse(socket_path, b"") == []
    assert trio.current_time() >= control.REQUEST_SECONDS


async def test_a_silent_sync_ends_when_the_client_leaves(socket_path: Path) -> None:
    target = Mount(blocks=True)
    async with serving(socket_path, target):
        stream = await trio.open_unix_socket(socket_path)
        async with stream:
            await stream.send_all(encode_line(Sync()))
            await stream.receive_some(1)
        with trio.fail_after(10):
            await target.stopped.wait()


async def test_a_client_that_reads_nothing_holds_up_nobody(
    socket_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Its reply is larger than any socket buffer; it is dropped when its time is over."""
    many = [PendingChange("x" * 1000, "write", 1, 1.0)] * 4000
    target = Mount(msgspec.structs.replace(status_of(), pending=many))
    async with serving(socket_path, target):
        slow = await trio.open_unix_socket(socket_path)
        async with slow:
            await slow.send_all(encode_line(Status()))
            await trio.testing.wait_all_tasks_blocked()
            target.answer = status_of()
            assert await converse(socket_path, encode_line(Status())) == [status_of()]
            await trio.sleep(control.SEND_SECONDS + 1)
            received = b"".join([chunk async for chunk in slow])
    assert 0 < len(received) < 4_000_000


async def test_a_client_that_takes_a_long_reply_slowly_gets_all_of_it(
    socket_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    many = [PendingChange("x" * 1000, "write", 1, 1.0)] * 4000
    target = Mount(msgspec.structs.replace(status_of(), pending=many))
    async with serving(socket_path, target), await trio.open_unix_socket(socket_path) as slow:
        await slow.send_all(encode_line(Status()))
        received = bytearray()
        while piece := await slow.receive_some(control.PIECE_BYTES):
            received += piece
            await trio.sleep(control.SEND_SECONDS / 5)
        assert trio.current_time() > control.SEND_SECONDS
    assert decode_reply(bytes(received)) == target.answer


async def test_more_clients_than_slots_are_hung_up_on(socket_path: Path) -> None:
    async with serving(socket_path, Mount()):
        silent = [await trio.open_unix_socket(socket_path) for _ in range(control.MAX_CLIENTS)]
        await trio.testing.wait_all_tasks_blocked()
        late = await trio.open_unix_socket(socket_path)
        assert await late.receive_some() == b""
        for stream in (*silent, late):
            await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert await converse(socket_path, encode_line(Status())) == [status_of()]


ASK_AS_NOBODY = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    os.setresuid(65534, 65534, 65534)
    connection.connect(sys.argv[1])
    connection.sendall(b'{"type":"status"}\\n')
    sys.stdout.write(connection.makefile().read())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_another_user_is_refused_even_where_the_socket_lets_them_in(socket_path: Path) -> None:
    async with serving(socket_path, Mount()):
        for path, mode in ((socket_path, 0o666), (socket_path.parent, 0o711), (socket_path.parent.parent, 0o711)):
            os.chmod(path, mode)
        done = await trio.run_process([sys.executable, "-c", ASK_AS_NOBODY, str(socket_path)], capture_stdout=True)
    assert decode_reply(done.stdout) == Failed("this mount belongs to another user", "EINVAL")


async def test_the_socket_is_the_owners_alone_and_goes_with_the_server(socket_path: Path) -> None:
    async with serving(socket_path, Mount()):
        assert stat.S_IMODE(os.stat(socket_path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(socket_path.parent).st_mode) == 0o700
        assert os.listdir(socket_path.parent) == [socket_path.name]
    assert os.listdir(socket_path.parent) == []


async def test_a_dead_mounts_socket_is_replaced_and_a_live_ones_is_not(socket_path: Path) -> None:
    socket_path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path))
    async with serving(socket_path, Mount()):
        assert await converse(socket_path, encode_line(Status())) == [status_of()]
        with pytest.raises(MountError, match="earlier mount"):
            await serve_control(socket_path, Mount())
        assert await converse(socket_path, encode_line(Status())) == [status_of()]


async def test_a_newer_mounts_socket_stays_when_the_older_server_ends(socket_path: Path) -> None:
    async with serving(socket_path, Mount()):
        os.unlink(socket_path)
        newer = sockets.listen(socket_path)
    assert sockets.is_answering(socket_path)
    newer.close()


async def test_a_folder_that_others_can_enter_is_refused(socket_path: Path) -> None:
    socket_path.parent.mkdir(mode=0o700)
    socket_path.parent.chmod(0o755)
    with pytest.raises(MountError, match="chmod 700"):
        await serve_control(socket_path, Mount())


async def test_a_path_that_no_socket_can_have_is_one_line(socket_path: Path) -> None:
    with pytest.raises(MountError, match="can't be made"):
        await serve_control(socket_path.with_name("x" * 200), Mount())


@pytest.fixture
def runtime(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of sockets, for any user."""
    monkeypatch.setattr(sockets, "_ROOT_DIRECTORY", socket_path.parent)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(socket_path.parent.parent))
    return sockets.runtime_directory()


async def test_all_mounts_are_found_and_dead_ones_removed(runtime: Path) -> None:
    first, second = (sockets.control_socket_path(Path(name)) for name in ("/mnt/first", "/mnt/second"))
    assert sockets.find_socket(Path("/mnt/first")) is None
    async with serving(first, Mount()):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(second))
        assert first in list(sockets.live_sockets())
        assert not second.exists()
        assert sockets.find_socket(Path("/mnt/first")) == first
        assert sockets.find_socket(Path("/mnt/second")) is None


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
counts = st.integers(0, 2**53)


@given(st.one_of(st.just(Status()), st.builds(Sync, st.none() | text)))
def test_every_request_is_one_line_and_survives(request_made: Status | Sync) -> None:
    line = encode_line(request_made)
    assert line.count(b"\n") == 1
    assert decode_request(line) == request_made


@given(
    st.one_of(
        st.builds(SyncProgress, counts, counts, counts), st.just(SyncDone()), st.builds(Failed, text, st.just("EIO"))
    )
)
def test_every_reply_is_one_line_and_survives(reply: Reply) -> None:
    line = encode_line(reply)
    assert line.count(b"\n") == 1
    assert decode_reply(line) == reply


def test_a_request_for_the_longest_path_fits() -> None:
    assert len(encode_line(Sync("\x01" * 4095))) <= MAX_REQUEST_BYTES


async def test_caches_are_dropped_and_options_changed_on_request(socket_path: Path) -> None:
    target = Mount()
    async with serving(socket_path, target):
        await trio.to_thread.run_sync(ask_drop_cache, socket_path)
        await trio.to_thread.run_sync(ask_change, socket_path, Change(log_level="debug", limit_down=1000, limit_up=0))
    assert target.asked == ["drop-cache", "debug 1000 0"]


async def test_options_that_can_not_be_so_are_refused(socket_path: Path) -> None:
    async with serving(socket_path, Mount(failure=MountError("too low"))):
        with pytest.raises(MountError, match="too low"):
            await trio.to_thread.run_sync(ask_change, socket_path, Change(limit_up=1))
