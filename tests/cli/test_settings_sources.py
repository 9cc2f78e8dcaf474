"""Where options come from: precedence, provenance, and one clear line for what can't be used."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacesfs.cli import layers
from spacesfs.cli.layers import ConfigError, collect
from spacesfs.config import MIB, OPTIONS, Options, format_size

BUCKET = "my-bucket"
PLACES = ("command line", "environment", "user's section", "system's section", "user's file", "system's file")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No variable or file of the person who runs the tests; return the folder of both configuration files."""
    for variables in layers.FALLBACK_VARIABLES.values():
        for variable in variables:
            monkeypatch.delenv(variable, raising=False)
    for option in OPTIONS.values():
        monkeypatch.delenv(option.variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(layers, "SYSTEM_FILE", tmp_path / "system.toml")
    (tmp_path / "spacesfs").mkdir()
    return tmp_path


def write_user_file(text: str) -> Path:
    path = layers.user_file()
    path.write_text(text)
    return path


def refused(bucket: str | None = None, **flags: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        collect(flags, bucket).check(Options)
    return caught.value


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Configuration files of a property test, whose examples share one fixture."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "spacesfs").mkdir()
        yield Path(name)


@given(places=st.sets(st.sampled_from(PLACES)), bucket=st.sampled_from([BUCKET, "another", None]))
def test_the_first_place_that_says_something_wins(folder: Path, places: set[str], bucket: str | None) -> None:
    """Model: the places in order; sections count for their bucket only."""
    values = {place: (16 + number) * MIB for number, place in enumerate(PLACES)}
    line = {place: f'memory = "{format_size(values[place])}"\n' if place in places else "" for place in PLACES}
    user, system = folder / "spacesfs" / "config.toml", folder / "system.toml"
    user.write_text(f"{line[PLACES[4]]}[bucket.{BUCKET}]\n{line[PLACES[2]]}")
    system.write_text(f"{line[PLACES[5]]}[bucket.{BUCKET}]\n{line[PLACES[3]]}")
    section = f"[bucket.{BUCKET}]"
    origins = dict(
        zip(
            PLACES,
            ["--memory", "SPACESFS_MEMORY", f"{user} {section}", f"{system} {section}", str(user), str(system)],
            strict=True,
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        patch.setattr(layers, "SYSTEM_FILE", system)
        if "environment" in places:
            patch.setenv("SPACESFS_MEMORY", str(values["environment"]))
        flag = format_size(values["command line"]) if "command line" in places else None
        collected = collect({"memory": flag}, bucket)
    heard = [place for place in PLACES if place in places and (bucket == BUCKET or "section" not in place)]
    assert collected.check(Options).memory == (values[heard[0]] if heard else 128 * MIB)
    assert collected.origin("memory") == (origins[heard[0]] if heard else "default")


def test_every_option_can_be_set_in_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = {"metrics_listen": "127.0.0.1:9400"}  # of options that are not set by default
    written = {
        name: option.write(option.field.get_default(call_default_factory=True)) or examples.get(name, "fra1")
        for name, option in OPTIONS.items()
        if name not in ("endpoint", "ca_bundle")
    }
    write_user_file("".join(f'{OPTIONS[name].key} = "{value}"\n' for name, value in written.items()))
    from_file = collect({}, None).check(Options)
    for name, value in written.items():
        monkeypatch.setenv(OPTIONS[name].variable, value)
    layers.user_file().unlink()
    from_environment = collect({}, None)
    assert from_file == from_environment.check(Options) == collect(written, None).check(Options)
    assert {from_environment.origin(name) for name in written} == {OPTIONS[name].variable for name in written}


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACESFS_REGION", "")
    monkeypatch.setenv("SPACES_REGION", "")
    assert collect({}, None).check(Options).region is None


def test_names_of_other_tools_come_after_ours_and_before_files(monkeypatch: pytest.MonkeyPatch) -> None:
    write_user_file('region = "ams3"\n')
    monkeypatch.setenv("AWS_DEFAULT_REGION", "lon1")
    monkeypatch.setenv("AWS_REGION", "sgp1")
    assert collect({}, None).origin("region") == "AWS_REGION"
    monkeypatch.setenv("SPACES_REGION", "blr1")
    assert collect({}, None).origin("region") == "SPACES_REGION"
    monkeypatch.setenv("SPACESFS_REGION", "syd1")
    assert collect({}, None).check(Options).region == "syd1"


def test_the_endpoint_of_terraform_has_a_place_for_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACES_ENDPOINT_URL", "https://{{.Region}}.digitaloceanspaces.com")
    options = collect({"region": "tor1"}, None).check(Options)
    assert options.address.url == "https://tor1.digitaloceanspaces.com"


def test_a_template_without_a_region_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACES_ENDPOINT_URL", "https://{{.Region}}.digitaloceanspaces.com")
    assert not collect({}, None).check(Options).is_located
    monkeypatch.setenv("SPACES_ENDPOINT_URL", "https://{{.Region}}.example.com")
    assert "SPACES_ENDPOINT_URL" in str(refused())


def test_a_region_of_amazon_counts_only_with_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert not collect({}, None).check(Options).is_located
    assert collect({"endpoint": "https://s3.example.com"}, None).check(Options).region == "us-east-1"
    write_user_file('region = "ams3"\n')
    assert collect({}, None).check(Options).region == "ams3"
    assert collect({"region": "us-east-1"}, None).check(Options).region == "us-east-1"


def test_a_misspelt_key_is_named_with_its_file_and_the_nearest_name() -> None:
    path = write_user_file('memroy = "64M"\n')
    assert str(refused()) == f"{path}: unknown key memroy; did you mean memory?"


@pytest.mark.parametrize("section", ["", f"[bucket.{BUCKET}]\n"], ids=["file", "section"])
@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.key)
def test_every_option_is_suggested_when_it_is_misspelt(option: Any, section: str) -> None:
    """Two letters swapped in the middle, one left out, one too many, and the underscore that programs write."""
    key, middle = option.key, len(option.key) // 2
    wrong = {key[:-1], f"{key}s", key.replace("-", "_")}
    if len(key) > len("gid"):  # of which igd is no nearer than uid
        wrong.add(f"{key[: middle - 1]}{key[middle]}{key[middle - 1]}{key[middle + 1 :]}")
    wrong -= {one.key for one in OPTIONS.values()}
    assert wrong
    for misspelt in wrong:
        write_user_file(f'{section}{misspelt} = "1"\n')
        assert str(refused()).endswith(f": unknown key {misspelt}; did you mean {key}?")


def test_a_misspelt_key_in_any_section_is_found() -> None:
    path = write_user_file(f'[bucket.{BUCKET}]\ncache_size = "1G"\n')
    assert str(refused()) == f"{path} [bucket.{BUCKET}]: unknown key cache_size; did you mean cache-size?"


@pytest.mark.parametrize("text", ["bucket = 1\n", "[bucket]\nregion = 'fra1'\n", "[[bucket]]\n"])
def test_sections_are_tables_by_bucket(text: str) -> None:
    path = write_user_file(text)
    assert str(refused()) == f"{path}: write options for one bucket under [bucket.NAME]"


def test_a_bad_value_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_user_file('timeout = "soon"\n')
    assert str(refused()).startswith(f"{path}: timeout: ")
    monkeypatch.setenv("SPACESFS_TIMEOUT", "later")
    assert str(refused()).startswith('SPACESFS_TIMEOUT: "later"')
    error = refused(timeout="never")
    assert (str(error).partition(":")[0], error.exit_code) == ("--timeout", 2)


def test_a_bare_number_is_no_mode_in_a_file() -> None:
    path = write_user_file("file-mode = 644\n")
    assert str(refused()) == f'{path}: file-mode: write the mode as text, like "0644"'


def test_a_file_that_is_not_toml_is_named_with_the_line() -> None:
    path = write_user_file("memory = 64M\n")
    assert str(refused()).startswith(f"{path}: is not TOML: ")
    assert "line 1" in str(refused())


def test_a_file_that_is_not_text_or_not_a_file_is_named() -> None:
    path = layers.user_file()
    path.write_bytes(b"\xff\xfe")
    assert str(refused()) == f"{path}: is not UTF-8 text"
    path.unlink()
    path.mkdir()
    assert str(refused()) == f"{path}: can't be read: Is a directory"


def test_misspelt_variables_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACESFS_MEMROY", "64M")
    assert "SPACESFS_MEMROY" in layers.unknown_variables()
    assert "SPACESFS_MEMORY" not in layers.unknown_variables()
