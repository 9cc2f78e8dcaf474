"""``spacesfs list`` and ``status`` against control sockets of mounts that are not there otherwise."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio
from click.testing import CliRunner, Result

from spacesfs.cli import inspect, pending
from spacesfs.cli.journals import JournalFolder
from spacesfs.cli.main import cli
from spacesfs.cli.output import print_json
from spacesfs.fuse import sockets
from spacesfs.fuse.control import serve_control
from spacesfs.fuse.messages import LongWork, MountStatus, PendingChange, RequestCounts, SyncProgress, Throttling, Usage
from spacesfs.fuse.sockets import control_socket_path
from spacesfs.pending.statedir import Identity

HOSTILE = "\x1b[31m\x9b2J\u202e"


@dataclass
class Mount:
    """One mount as its control socket shows it."""

    mountpoint: str
    pending: int = 0
    is_troubled: bool = False

    async def status(self) -> MountStatus:
        return MountStatus(
            bucket="my-bucket",
            prefix="some/",
            mountpoint=self.mountpoint,
            endpoint="https://fra1.digitaloceanspaces.com",
            pid=4711,
            version="1.2.3",
            state="serving",
            since=0.0,
            durability="space",
            read_only=True,
            read_only_reason="the key may not write",
            pending=[PendingChange(f"f{n}{HOSTILE}", "write", 2048, 3.0, 2, "no answer") for n in range(self.pending)],
            pending_changes=self.pending,
            pending_bytes=2048 * self.pending,
            memory=Usage(2**20, 2**27),
            staging=Usage(0, 2**30),
            requests={"read": RequestCounts(sent=1, bytes_received=2**20)},
            notices=["mind the gap"],
            work=[
                LongWork("iso\x1b[31m", None, 2**28, 2**30, 3 * 2**28, 2.0**20, 768.0),
                LongWork("old", "new", 40, 100, 2**20, None),
            ],
            offline_since=time.time() - 120 if self.is_troubled else None,
            throttling={"list": Throttling(2, 16, 37.5, 300.0, 5)} if self.is_troubled else {},
        )

    async def sync(self, path: str | None) -> AsyncGenerator[SyncProgress, None]:
        assert path is None
        yield SyncProgress(1, 1500, 3000)
        yield SyncProgress(0, 0, 3000)


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of sockets with no mounts but the tests', whoever runs them."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(sockets, "_search_directories", lambda: [Path(folder) / "spacesfs"])
        monkeypatch.setattr(sockets, "_ROOT_DIRECTORY", Path(folder) / "spacesfs")
        monkeypatch.setattr(inspect, "stale_mounts", list)
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


async def ask(mounts: list[Mount], *arguments: str) -> Result:
    """Run a command while these mounts are being served."""
    async with trio.open_nursery() as nursery:
        for mount in mounts:
            await nursery.start(serve_control, control_socket_path(Path(mount.mountpoint)), mount)
        result = await trio.to_thread.run_sync(partial(CliRunner().invoke, cli, list(arguments)))
        nursery.cancel_scope.cancel()
    return result


async def test_list_shows_all_mounts_as_a_table() -> None:
    result = await ask([Mount("/mnt/b"), Mount("/mnt/a", pending=1)], "list")
    assert [line.split() for line in result.output.splitlines()] == [
        ["SPACE", "MOUNTPOINT", "STATE", "PENDING", "PID"],
        ["my-bucket:some/", "/mnt/a", "serving", "1", "change,", "2.0", "KiB", "4711"],
        ["my-bucket:some/", "/mnt/b", "serving", "nothing", "4711"],
    ]


async def test_list_without_mounts_is_empty() -> None:
    assert (await ask([], "list")).output == ""
    assert json.loads((await ask([], "list", "--json")).output) == []


async def test_list_as_json() -> None:
    listed = json.loads((await ask([Mount("/mnt/a", pending=2)], "list", "--json")).output)
    [mount] = listed
    assert (mount["bucket"], mount["mountpoint"], mount["pid"]) == ("my-bucket", "/mnt/a", 4711)
    assert [change["path"] for change in mount["pending"]] == [f"f{n}{HOSTILE}" for n in range(2)]


@pytest.mark.parametrize(
    "command",
    [
        ("status", "--json"),
        ("status",),
        ("list", "--json"),
        ("list",),
    ],
)
async def test_no_name_steers_the_terminal(command: tuple[str, ...]) -> None:
    output = (await ask([Mount("/mnt/a", pending=1)], *command)).output
    assert "/mnt/a" in output
    assert not set("\x1b\x9b\u202e") & set(output)


def test_no_name_in_a_journal_steers_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = JournalFolder(Identity("https://x.example", "my-bucket", f"{HOSTILE}/"), tmp_path / HOSTILE)
    waiting = pending._File(folder, folder.path, [], 1, f"bad {HOSTILE}")  # noqa: SLF001 - a journal that is not there
    change = PendingChange(HOSTILE, "write", 1, 1.0, 1, HOSTILE)
    pending._print(waiting, [change])  # noqa: SLF001
    print_json(msgspec.to_builtins(change))
    output = capsys.readouterr().out
    assert output.count("\\u202e") >= 5
    assert not set("\x1b\x9b\u202e") & set(output)


async def test_status_says_what_matters_and_no_name_steers_the_terminal() -> None:
    output = (await ask([Mount("/mnt/a", pending=25)], "status")).output
    assert "my-bucket:some/ on /mnt/a\n" in output
    assert "read-only   the key may not write\n" in output
    assert "pending     25 changes, 50.0 KiB\n" in output
    assert "1 request, 0 failed, 0 throttled, 0 B sent, 1.0 MiB received\n" in output
    assert "! mind the gap\n" in output
    assert "write f0\\x1b[31m\\x9b2J\\u202e, 2.0 KiB, 3 s old: 2 attempts failed: no answer\n" in output
    assert "  sending iso\\x1b[31m: 256.0 MiB of 1.0 GiB, 1.0 MiB a second, about 13 min left\n" in output
    assert "  renaming old to new: 40 of 100 objects, 1.0 MiB left\n" in output
    assert output.endswith("and 5 more changes\n")
    assert "\x1b" not in output


async def test_status_tells_of_a_space_that_is_away_or_throttles() -> None:
    output = (await ask([Mount("/mnt/a", is_troubled=True)], "status")).output
    assert "offline     the Space can't be reached, for 2 min" in output
    assert "throttled   list: 2 of 16 requests at once, 38 of 300 a second, 5 waiting\n" in output
    output = (await ask([Mount("/mnt/a")], "status")).output
    assert "offline" not in output
    assert "throttled   " not in output


async def test_sync_of_everything_says_what_is_left() -> None:
    result = await ask([Mount("/mnt/a")], "sync")
    assert result.output == "/mnt/a: 1 change, 1.5 KiB left\n"
    assert result.exit_code == 0


async def test_sync_without_any_mount_fails() -> None:
    result = await ask([], "sync")
    assert str(result.exception) == "no Space is mounted; nothing to sync"
