"""``spacesfs config``: what it shows, and what it never shows."""

from __future__ import annotations

from pathlib import Path

from spacesfs.cli.settings import reference_table
from spacesfs.config import OPTIONS
from tests.cli.running import complaint, spacesfs

SECRET = "geheim-geheim-geheim"
KEY = {"SPACES_ACCESS_KEY_ID": "DO00ABCDEFGHIJKLMNOP", "SPACES_SECRET_ACCESS_KEY": SECRET}


def shown(*arguments: str, **variables: str) -> dict[str, list[str]]:
    """Return value and origin of each row of ``config show``."""
    done = spacesfs("config", "show", *arguments, **variables)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    table = done.stdout.partition("\n\n")[0]
    return {
        row[0]: row[1:] for row in ([*filter(None, map(str.strip, line.split("  ")))] for line in table.splitlines())
    }


def test_every_option_is_shown_with_its_origin(tmp_path: Path) -> None:
    (tmp_path / "spacesfs").mkdir()
    file = tmp_path / "spacesfs" / "config.toml"
    file.write_text('memory = "256M"\n[bucket.my-bucket]\nread-only = true\n')
    rows = shown("my-bucket", XDG_CONFIG_HOME=str(tmp_path), SPACESFS_TIMEOUT="1m", AWS_REGION="ams3", **KEY)
    assert {option.key for option in OPTIONS.values()} <= set(rows)
    assert rows["memory"] == ["256M", str(file)]
    assert rows["read-only"] == ["true", f"{file} [bucket.my-bucket]"]
    assert rows["timeout"] == ["60s", "SPACESFS_TIMEOUT"]
    assert rows["region"] == ["ams3", "AWS_REGION"]
    assert rows["endpoint"] == ["https://ams3.digitaloceanspaces.com", "follows from region"]
    assert rows["metadata-ttl"] == ["5s", "default"]
    assert shown(XDG_CONFIG_HOME=str(tmp_path))["read-only"] == ["false", "default"]


def test_of_the_access_key_only_its_source_and_first_letters_are_shown() -> None:
    assert shown(**KEY)["access key"] == ["DO00…", "environment"]
    assert shown()["access key"][0] == "none"
    half = shown(SPACES_SECRET_ACCESS_KEY=SECRET)["access key"]
    assert "SPACES_ACCESS_KEY_ID" in half[1]


def test_misspelt_variables_are_mentioned() -> None:
    done = spacesfs("config", "show", SPACESFS_MEMROY="1G")
    assert done.stderr == "spacesfs: SPACESFS_MEMROY in the environment is not an option\n"
    assert done.returncode == 0


def test_a_bad_value_is_one_line() -> None:
    line = complaint("config", "show", status=1, SPACESFS_MEMORY="lots")
    assert line == 'SPACESFS_MEMORY: "lots" is not a size; write it like 64M or 1GiB'


def test_the_reference_is_the_same_on_every_host() -> None:
    done = spacesfs("config", "reference", SPACESFS_MEMORY="1G", XDG_CACHE_HOME="/elsewhere")
    assert done.stdout == reference_table()
    rows = done.stdout.splitlines()
    assert len(rows) == 2 + len(OPTIONS)
    assert "| `--memory SIZE` | `SPACESFS_MEMORY` | `memory` | `128M` |" in done.stdout
