"""The options of a mount: how values are written, what is refused, and that docs and fields agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spacesfs.config import (
    GIB,
    MIB,
    OPTIONS,
    MountConfig,
    Options,
    format_duration,
    format_size,
    parse_duration,
    parse_mode,
    parse_size,
)

TARGET = {"bucket": "my-bucket", "mountpoint": Path("/mnt/space"), "region": "fra1"}


def mount_config(**values: Any) -> MountConfig:
    return MountConfig.model_validate(TARGET | values)


def reason(**values: Any) -> str:
    """Return why these values are refused."""
    with pytest.raises(ValidationError) as caught:
        mount_config(**values)
    return caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1500", 1500),
        ("1500B", 1500),
        ("64M", 64 * MIB),
        ("64 MiB", 64 * MIB),
        ("64m", 64 * MIB),
        ("64MB", 64_000_000),
        ("1.5G", 3 * GIB // 2),
        ("2T", 2 * 2**40),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1X", "1 M B", "0x10", "1e9", "inf", "٣"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("30s", 30), ("500ms", 0.5), ("5m", 300), ("1h", 3600), ("0.25 s", 0.25)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 day", "inf", "nan", "1e3"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "mode"), [("644", 0o644), ("0644", 0o644), ("0o600", 0o600), ("0", 0), ("0777", 0o777)]
)
def test_modes(text: str, mode: int) -> None:
    assert parse_mode(text) == mode


@pytest.mark.parametrize("text", ["", "888", "1777", "rw-r--r--", "-1", "0x1ff"])
def test_what_is_no_mode(text: str) -> None:
    with pytest.raises(ValueError, match="is not a mode"):
        parse_mode(text)


@given(st.integers(0, 2**62))
def test_a_size_is_read_as_it_was_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 10**9))
def test_a_duration_is_read_as_it_was_written(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(0, 0o777))
def test_a_mode_is_read_as_it_was_written(mode: int) -> None:
    assert parse_mode(OPTIONS["file_mode"].write(mode)) == mode


def test_defaults_are_as_documented() -> None:
    config = mount_config()
    assert (config.memory, config.cache_size) == (128 * MIB, 10 * GIB)
    assert (config.metadata_ttl, config.timeout) == (5, 30)
    assert (config.file_mode, config.dir_mode) == (0o644, 0o755)
    assert [config.read_only, config.allow_other, config.allow_insecure] == [False] * 3


def test_each_of_region_and_endpoint_follows_from_the_other() -> None:
    assert mount_config().address.url == "https://fra1.digitaloceanspaces.com"
    by_endpoint = mount_config(region=None, endpoint="https://nyc3.digitaloceanspaces.com/")
    assert (by_endpoint.address.region, by_endpoint.endpoint) == ("nyc3", "https://nyc3.digitaloceanspaces.com")


def test_a_mount_may_leave_its_place_open() -> None:
    assert not mount_config(region=None).is_located
    assert mount_config().is_located
    assert mount_config(region=None, endpoint="https://s3.example.com").is_located


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bucket": "No/Such!Bucket"}, "No/Such!Bucket"),
        ({"bucket": ""}, "is not a bucket name"),
        ({"endpoint": "http://files.example.com"}, "--allow-insecure"),
        ({"endpoint": "https://my-bucket.example.com"}, "leave the name out"),
        ({"endpoint": "https://user:secret@example.com"}, "user name"),
        ({"memory": True}, "true is not a number"),
        ({"memory": "1K"}, "at least 16M"),
        ({"timeout": 0}, "greater than 0"),
        ({"timeout": float("inf")}, "finite"),
        ({"metadata_ttl": -1}, "greater than or equal to 0"),
        ({"uid": "root"}, "numeric"),
        ({"uid": 2**32 - 1}, "less than"),
        ({"dir_mode": 0o1777}, "less than or equal"),
        ({"durability": "eventually"}, "space"),
        ({"cache_dir": ""}, "empty"),
        ({"cache_dir": "/mnt/space/cache"}, "lies in the mountpoint"),
        ({"log_file": "/mnt/space"}, "lies in the mountpoint"),
        ({"ca_bundle": "/nowhere.pem"}, "/nowhere.pem"),
        ({"credential_command": " "}, "empty"),
        ({"credential_command": "pass 'my key"}, "No closing quotation"),
        ({"mountpoint": Path("/mnt/\udcff")}, "UTF-8"),
        ({"no_such_option": 1}, "not permitted"),
    ],
    ids=str,
)
def test_what_can_not_be_mounted(values: dict[str, Any], words: str) -> None:
    assert words in reason(**values)


@pytest.mark.parametrize("host", ["localhost:7480", "127.0.0.1", "[::1]:80"])
def test_plain_http_to_this_host_is_allowed(host: str) -> None:
    assert not mount_config(endpoint=f"http://{host}").address.is_secure


def test_plain_http_elsewhere_must_be_asked_for() -> None:
    config = mount_config(endpoint="http://files.example.com", allow_insecure=True)
    assert config.address.url == "http://files.example.com"


def test_a_file_without_certificates_is_no_ca_bundle(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate\n")
    assert "no certificate" in reason(ca_bundle=tmp_path / "ca.pem")


def test_paths_are_absolute_and_know_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = mount_config(cache_dir="~/cache", state_dir="state")
    assert (config.cache_dir, config.state_dir) == (tmp_path / "cache", tmp_path / "state")


def test_the_environment_is_not_read_behind_the_callers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACESFS_MEMORY", "1G")
    assert mount_config().memory == 128 * MIB


def test_a_config_never_changes() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        mount_config().memory = 1


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_every_option_is_given_to_a_command_in_some_test(option: Any) -> None:
    """What an option does is tested where it is done, by a command that is given it, not only where it is read."""
    tests = Path(__file__).parent
    used = re.compile(rf"--{option.key}\b(?!-)|{option.variable}\b")
    commands = (*tests.glob("mount/*.py"), *tests.glob("cli/test_[dl-z]*.py"), *tests.glob("posix/*.py"))
    assert [path for path in commands if used.search(path.read_text())]


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_every_option_can_be_explained(option: Any) -> None:
    assert option.help.endswith(".")
    assert option.is_switch or option.metavar
    written = option.write(option.field.get_default(call_default_factory=True))
    assert not written or getattr(Options.model_validate({option.name: written}), option.name) is not None
