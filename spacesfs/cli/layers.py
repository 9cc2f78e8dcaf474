"""Where options come from: command line, environment, the user's and the system's TOML file, defaults; first one wins.

A file holds general keys and sections per bucket, which win over them::

    region = "fra1"
    cache-size = "2GiB"

    [bucket.my-bucket]
    read-only = true
"""

from __future__ import annotations

import os
import tomllib
from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from spacesfs.client.endpoint import SPACES_DOMAIN, is_spaces_region
from spacesfs.config import ENVIRONMENT_PREFIX, OPTIONS, Form, Options, first_reason

SYSTEM_FILE = Path("/etc/spacesfs/config.toml")

FALLBACK_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "endpoint": ("SPACES_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "region": ("SPACES_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"),
    "ca_bundle": ("SSL_CERT_FILE",),
}
"""Names that other tools use for the same thing, in order; they win over files and lose to our own names."""

_BY_KEY = {option.key: option for option in OPTIONS.values()}
_SECTIONS = "bucket"
_REGION_PLACE = "{{.Region}}"

OptionsType = TypeVar("OptionsType", bound=Options)


class ConfigError(click.ClickException):
    """An option can't be used. The message is one line that names the place, the option and what to do."""

    exit_code = 1


class FlagError(ConfigError):
    """The command line itself is wrong, not what it found."""

    exit_code = 2


class Given(NamedTuple):
    """A value as it was written, and where."""

    value: object
    origin: str


Layer = Mapping[str, Given]


@dataclass(frozen=True, slots=True)
class Collected:
    """What all places say together, by field name."""

    given: Layer

    def check(self, model: type[OptionsType], **target: object) -> OptionsType:
        """Build the options, or the mount of ``target``.

        Raises:
            ConfigError: A value is wrong; the first one is named with its origin.
        """
        try:
            return model.model_validate({name: value for name, (value, _) in self.given.items()} | target)
        except ValidationError as error:
            raise self._explain(error) from error

    def origin(self, name: str) -> str:
        """Say where the value of a field came from."""
        return self.given[name].origin if name in self.given else "default"

    def _explain(self, error: ValidationError) -> ConfigError:
        name, reason = first_reason(error)
        if name not in self.given:
            return FlagError(f"{name}: {reason}" if name else reason)
        origin = self.given[name].origin
        kind = FlagError if origin.startswith("--") else ConfigError
        return kind(f"{_place(name, origin)}: {reason}")


def collect(flags: Mapping[str, object], bucket: str | None) -> Collected:
    """Read every place that options may come from.

    Args:
        flags: Values from the command line by field name; None means not given.
        bucket: Whose sections in the files count, or None for none.

    Raises:
        ConfigError: A file can't be read or parsed, or holds a key that is not an option.
    """
    command_line = {name: Given(value, OPTIONS[name].flag) for name, value in flags.items() if value is not None}
    files = [layer for path in (user_file(), SYSTEM_FILE) for layer in _file_layers(path)]
    sections = [section[bucket] for _, section in files if bucket in section]
    general = [layer for layer, _ in files]
    layers: list[Layer] = [command_line, _environment(), _fallbacks(), *sections, *general]
    if not any("endpoint" in layer for layer in layers):
        layers = [_without_foreign_region(layer) for layer in layers]
    return Collected(_fill_region_place(ChainMap(*map(dict, layers))))


def user_file() -> Path:
    """Return ``$XDG_CONFIG_HOME/spacesfs/config.toml``."""
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (base if base.is_absolute() else Path(os.path.expanduser("~")) / ".config") / "spacesfs" / "config.toml"


def unknown_variables() -> list[str]:
    """Return the names in the environment that look like ours and are no option's: likely misspelt."""
    known = {option.variable for option in OPTIONS.values()}
    return sorted(name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX) and name not in known)


def _environment() -> Layer:
    values = EnvSettingsSource(Options)()
    return {name: Given(value, OPTIONS[name].variable) for name, value in values.items()}


def _fallbacks() -> Layer:
    return {
        name: next(Given(os.environ[variable], variable) for variable in variables if os.environ.get(variable))
        for name, variables in FALLBACK_VARIABLES.items()
        if any(os.environ.get(variable) for variable in variables)
    }


def _without_foreign_region(layer: Layer) -> Layer:
    """Leave out a region that is set for Amazon's tools and is none of Spaces'."""
    region = layer.get("region")
    if region is None or not region.origin.startswith("AWS_") or is_spaces_region(str(region.value)):
        return layer
    return {name: value for name, value in layer.items() if name != "region"}


def _fill_region_place(given: Layer) -> Layer:
    """Put the region into an endpoint that has a place for it, as the Terraform provider writes them.

    Where no region is known, the one at Spaces says nothing.
    """
    endpoint, region = given.get("endpoint"), given.get("region")
    if endpoint is None:
        return given
    if region is None:
        is_empty = str(endpoint.value).rstrip("/") == f"https://{_REGION_PLACE}.{SPACES_DOMAIN}"
        return {name: value for name, value in given.items() if name != "endpoint" or not is_empty}
    filled = str(endpoint.value).replace(_REGION_PLACE, str(region.value))
    return {**given, "endpoint": Given(filled, endpoint.origin)}


def _file_layers(path: Path) -> Iterable[tuple[Layer, dict[str, Layer]]]:
    """Yield a file's general options and its sections by bucket; nothing when there is no such file."""
    document = _read_toml(path)
    if document is None:
        return
    sections = document.pop(_SECTIONS, {})
    if not (isinstance(sections, dict) and all(isinstance(section, dict) for section in sections.values())):
        raise ConfigError(f"{path}: write options for one bucket under [{_SECTIONS}.NAME]")
    yield (
        _table_layer(document, str(path)),
        {name: _table_layer(table, f"{path} [{_SECTIONS}.{name}]") for name, table in sections.items()},
    )


def _read_toml(path: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error


def _table_layer(table: Mapping[str, object], origin: str) -> Layer:
    for key, value in table.items():
        if key not in _BY_KEY:
            raise ConfigError(f"{origin}: unknown key {key}{_suggestion(key)}")
        if _is_mode(key) and isinstance(value, int):
            raise ConfigError(f'{origin}: {key}: write the mode as text, like "0644"')
    return {_BY_KEY[key].name: Given(value, origin) for key, value in table.items()}


def _is_mode(key: str) -> bool:
    """Tell whether the option is octal: as a bare TOML number, 644 would be decimal."""
    return any(isinstance(part, Form) and part.metavar == "MODE" for part in _BY_KEY[key].field.metadata)


def _suggestion(key: str) -> str:
    nearest = get_close_matches(key, [*_BY_KEY, _SECTIONS], n=1)
    return f"; did you mean {nearest[0]}?" if nearest else "; `spacesfs config show` lists the known ones"


def _place(name: str, origin: str) -> str:
    """Name an option in its place: ``--memory``, ``SPACESFS_MEMORY``, ``/etc/spacesfs/config.toml: memory``."""
    return f"{origin}: {OPTIONS[name].key}" if origin.startswith("/") else origin
