"""The commands for Spaces, run in this process against a real server."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from spacesfs.cli.main import main
from tests.servers.rgw import RadosGateway


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, if that is JSON."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line that it complained with."""
        [line] = self.err.splitlines()
        return line.removeprefix("spacesfs: ")


Cli = Callable[..., Done]


@pytest.fixture
def settings(rgw: RadosGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment that leads to the server and holds nothing of who runs the tests; its home directory."""
    for name in os.environ:
        if name.startswith(("AWS_", "SPACES", "DIGITALOCEAN_", "XDG_", "SSL_CERT")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    values = {"HOME": str(home), "SPACESFS_ENDPOINT": rgw.endpoint, "SPACESFS_STATE_DIR": str(home / "state")}
    values |= {"SPACES_ACCESS_KEY_ID": rgw.access_key, "SPACES_SECRET_ACCESS_KEY": rgw.secret_key}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return home


@pytest.fixture
def stranger(settings: Path, rgw: RadosGateway, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the commands come from another account; its secret."""
    monkeypatch.setenv("SPACES_ACCESS_KEY_ID", rgw.other_access_key)
    monkeypatch.setenv("SPACES_SECRET_ACCESS_KEY", rgw.other_secret_key)
    return rgw.other_secret_key


@pytest.fixture
def cli(settings: Path, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a command; each word of its line is an argument. Fails unless it ends with ``status``."""

    def run(*arguments: str | Path, status: int = 0) -> Done:
        capfd.readouterr()
        got = main([str(argument) for argument in arguments])
        done = Done(got, *capfd.readouterr())
        assert done.status == status, done
        return done

    return run
