"""Everything that cannot be mounted: one line that says why, exit status 1 or 2, and a mountpoint as it was."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import Account, Mount, MountMaker, attempt, daemons_of, is_mounted, spacesfs_command
from tests.servers.process import free_port

if TYPE_CHECKING:
    from tests.servers.rgw import RadosGateway

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"


@pytest.fixture
def attempted(account: Account, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Mount:
    """A mount that would work, to be spoilt by the test."""
    return Mount(account, bucket, tmp_path_factory.mktemp("m"), ["--timeout", "5s"])


@pytest.fixture(autouse=True)
def _cleaned(attempted: Mount) -> object:
    yield
    attempted.close()


def assert_refused(
    mount: Mount, *words: str, prefix: Sequence[str] = (), arguments: Sequence[str] = (), entries: Sequence[str] = ()
) -> None:
    """Mount, in the background and in the foreground, and check that it ends in one line with all of these words."""
    for mode in ([], ["--foreground"]):
        command = [*prefix, *spacesfs_command("mount", *mode, *mount.arguments(), *arguments)]
        done = attempt(*command, env=mount.environment, seconds=40)
        output = done.stdout + done.stderr
        assert done.returncode in (1, 2), f"exit status {done.returncode}: {output}"
        assert mount.account.secret_key not in output
        assert "Traceback" not in output
        assert len(output.strip().splitlines()) == 1, output
        for word in words:
            assert word.lower() in done.stderr.lower(), f"{word!r} is not in {done.stderr!r}"
        assert not is_mounted(mount.path)
        assert daemons_of(mount.path) == []
        if mount.path.is_dir():
            assert os.listdir(mount.path) == list(entries)


def test_wrong_secret(attempted: Mount) -> None:
    attempted.account = replace(attempted.account, secret_key=SECRET)
    assert_refused(attempted, "secret")


def test_unknown_key(attempted: Mount) -> None:
    attempted.account = replace(attempted.account, access_key="AKIANOBODYKNOWSME", secret_key=SECRET)
    assert_refused(attempted, "key")


def test_no_keys_at_all(attempted: Mount) -> None:
    without = ["env", "-u", "SPACES_ACCESS_KEY_ID", "-u", "SPACES_SECRET_ACCESS_KEY"]
    assert_refused(attempted, "SPACES_ACCESS_KEY_ID", prefix=without)


def test_half_a_pair_of_keys(attempted: Mount) -> None:
    assert_refused(attempted, "SPACES_SECRET_ACCESS_KEY", prefix=["env", "-u", "SPACES_SECRET_ACCESS_KEY"])


def test_bucket_of_someone_else(rgw: RadosGateway, attempted: Mount) -> None:
    attempted.account = replace(attempted.account, access_key=rgw.other_access_key, secret_key=rgw.other_secret_key)
    assert_refused(attempted, attempted.source)


def test_unknown_bucket(attempted: Mount) -> None:
    attempted.source = "no-such-bucket-anywhere"
    assert_refused(attempted, "no-such-bucket-anywhere")


def test_impossible_bucket_name(attempted: Mount) -> None:
    attempted.source = "No/Such!Bucket"
    assert_refused(attempted, "No/Such!Bucket")


def test_unreachable_endpoint(attempted: Mount) -> None:
    port = free_port()
    attempted.account = replace(attempted.account, endpoint=f"https://localhost:{port}")
    assert_refused(attempted, f"localhost:{port}")


def test_unknown_host(attempted: Mount) -> None:
    attempted.account = replace(attempted.account, endpoint="https://spaces.invalid")
    assert_refused(attempted, "spaces.invalid")


def test_untrusted_certificate(attempted: Mount) -> None:
    attempted.account = replace(attempted.account, ca_bundle=None)
    assert_refused(attempted, "certificate")


def test_https_to_a_server_without_tls(rgw: RadosGateway, attempted: Mount) -> None:
    attempted.account = replace(
        attempted.account, endpoint=rgw.endpoint.replace("http://127.0.0.1", "https://localhost")
    )
    assert_refused(attempted, "localhost")


def test_plain_http_to_a_stranger(attempted: Mount) -> None:
    """Refused before any name is looked up."""
    attempted.account = replace(attempted.account, endpoint="http://spaces.invalid", ca_bundle=None)
    assert_refused(attempted, "http", "--allow-insecure")


def test_missing_mountpoint(attempted: Mount) -> None:
    attempted.path.rmdir()
    assert_refused(attempted, str(attempted.path))
    assert not attempted.path.exists()


def test_mountpoint_is_a_file(attempted: Mount) -> None:
    attempted.path.rmdir()
    attempted.path.write_bytes(b"a file")
    assert_refused(attempted, str(attempted.path), "directory")
    assert attempted.path.read_bytes() == b"a file"


def test_mountpoint_that_is_not_empty(attempted: Mount) -> None:
    (attempted.path / "something").touch()
    assert_refused(attempted, str(attempted.path), "empty", entries=["something"])


def test_busy_mountpoint(new_mount: MountMaker) -> None:
    mount: Mount = new_mount()
    for mode in ([], ["--foreground"]):
        done = mount.spacesfs("mount", *mode, *mount.arguments())
        assert done.returncode in (1, 2)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert str(mount.path) in done.stderr
    (mount.path / "alive").write_bytes(b"alive")
    assert (mount.path / "alive").read_bytes() == b"alive"


def test_missing_fuse_device(attempted: Mount, tmp_path: Path) -> None:
    """In a mount namespace of its own, with a /dev that has no fuse."""
    script = """
        mount -t tmpfs none "$0"
        for device in null zero full random urandom tty; do
            touch "$0/$device"
            mount --bind "/dev/$device" "$0/$device"
        done
        mount --rbind "$0" /dev
        exec "$@"
    """
    unshare = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    assert_refused(attempted, "/dev/fuse", prefix=[*unshare, "sh", "-eu", "-c", script, str(tmp_path)])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--memory", "lots"], "memory"),
        (["--memory", "1K"], "memory"),
        (["--cache-size", "-5"], "cache-size"),
        (["--metadata-ttl", "soon"], "metadata-ttl"),
        (["--timeout", "0"], "timeout"),
        (["--file-mode", "0888"], "file-mode"),
        (["--uid", "root"], "uid"),
        (["--durability", "eventually"], "durability"),
        (["--log-level", "chatty"], "log-level"),
        (["--ca-bundle", "/nowhere/ca.pem"], "/nowhere/ca.pem"),
        (["--endpoint", "https://user:pass@localhost/path"], "endpoint"),
        (["--no-such-option"], "--no-such-option"),
        (["one-argument-too-many"], "one-argument-too-many"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_option(attempted: Mount, arguments: list[str], word: str) -> None:
    assert_refused(attempted, word, arguments=arguments)


def test_ca_bundle_that_holds_no_certificate(attempted: Mount, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate\n")
    assert_refused(attempted, str(tmp_path / "ca.pem"), arguments=["--ca-bundle", str(tmp_path / "ca.pem")])


def _garbage(file: Path) -> None:
    file.write_text("this is [not TOML\n")


def _folder(file: Path) -> None:
    file.mkdir()


def _unknown_key(file: Path) -> None:
    file.write_text('colour = "green"\n')


def _bad_value(file: Path) -> None:
    file.write_text('memory = "lots"\n')


def _not_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("spoil", [_garbage, _folder, _unknown_key, _bad_value, _not_text])
def test_bad_configuration_file(attempted: Mount, spoil: Callable[[Path], None]) -> None:
    file = attempted.home / ".config" / "spacesfs" / "config.toml"
    file.parent.mkdir(parents=True)
    spoil(file)
    assert_refused(attempted, str(file))


def test_credentials_that_others_can_read(account: Account, attempted: Mount) -> None:
    file = attempted.home / ".aws" / "credentials"
    file.parent.mkdir()
    file.write_text(
        f"[default]\naws_access_key_id = {account.access_key}\naws_secret_access_key = {account.secret_key}\n"
    )
    file.chmod(0o644)
    without = ["env", "-u", "SPACES_ACCESS_KEY_ID", "-u", "SPACES_SECRET_ACCESS_KEY"]
    assert_refused(attempted, str(file), prefix=without)


def test_state_folder_that_cannot_be_made(attempted: Mount, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_refused(attempted, str(tmp_path / "file"), arguments=["--state-dir", str(tmp_path / "file" / "state")])


def test_cache_folder_inside_the_mountpoint(attempted: Mount) -> None:
    assert_refused(attempted, "cache", arguments=["--cache-dir", str(attempted.path / "cache")])


def test_reader_that_goes_away(attempted: Mount) -> None:
    """Help into a closed pipe is no traceback either."""
    command = spacesfs_command("mount", "--help")
    script = f"{' '.join(command)} 2>&1 >/dev/full || true"
    shown = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=attempted.environment, check=False
    )
    assert "Traceback" not in shown.stdout
