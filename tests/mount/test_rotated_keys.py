"""A mount goes on when its access key is replaced: the new one is read from where the old one was."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from tests.mount.mounting import Account, MountMaker
from tests.servers.rgw import RadosGateway


def write_key(path: Path, key: tuple[str, str]) -> None:
    """Replace a file of s3fs's form as a tool that rotates keys would: at once, and for its owner alone."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(f"{key[0]}:{key[1]}\n")
    new.rename(path)


@pytest.mark.parametrize("place", ["file", "command"])
def test_a_rotated_key_needs_no_remount(
    new_mount: MountMaker, rgw: RadosGateway, account: Account, tmp_path_factory: pytest.TempPathFactory, place: str
) -> None:
    home = tmp_path_factory.mktemp("m")
    key_file = home / ".passwd-s3fs"
    command = f"tr : '\\n' < {shlex.quote(str(key_file))}"
    options = () if place == "file" else ("--credential-command", shlex.join(("sh", "-c", command)))
    first, second = ((f"AK{place}{number}".upper(), f"secret-of-the-{number}") for number in ("first", "second"))
    rgw.add_key(*first)
    write_key(key_file, first)
    keyless = Account(account.endpoint, "", "", account.ca_bundle)
    mount = new_mount(home=home, account=keyless, options=(*options, "--metadata-ttl", "0"))
    (mount.path / "before").write_bytes(b"written with the first key")
    rgw.add_key(*second)
    write_key(key_file, second)
    rgw.remove_key(first[0])
    assert (mount.path / "before").stat().st_size == len(b"written with the first key")
    (mount.path / "after").write_bytes(b"written with the second key")
    assert sorted(os.listdir(mount.path)) == ["after", "before"]
    assert "the access key was changed" in mount.log.read_text()
    assert "secret-of-the" not in mount.log.read_text()
    mount.stop()
    rgw.remove_key(second[0])
