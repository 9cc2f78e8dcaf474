"""Every option of a mount: its name, meaning, form and default, in one place.

Command line flags, environment names, TOML keys, ``spacesfs config show`` and the table in docs/configuration.md all
come from the fields below. ``spacesfs.cli.layers`` reads those places and says which of them a value came from.
"""

from __future__ import annotations

import os
import re
import shlex
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from spacesfs.client.endpoint import Endpoint, EndpointError, resolve_endpoint

ENVIRONMENT_PREFIX = "SPACESFS_"
KIB, MIB, GIB = 2**10, 2**20, 2**30
CHANGEABLE = ("memory", "cache_size", "limit_down", "limit_up", "log_level")  # while a mount serves: `spacesfs set`
LEAST_BYTES_PER_SECOND = 64 * KIB  # a slower line is none that a mount could live with

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(B|iB)?|B)?", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?", re.ASCII)
_SECONDS_PER = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")


class Durability(StrEnum):
    """What an acknowledged close, fsync, rename or unlink means.

    Safe in the journal on this host's stable storage; as that, but fsync means the Space; always the Space.
    """

    JOURNAL = "journal"
    FSYNC = "fsync"
    SPACE = "space"


class AttributeSource(StrEnum):
    """Where the mode, owner and times of files come from: their objects' metadata, or the listing alone."""

    SPACE = "space"
    SERVER = "server"


class LogLevel(StrEnum):
    """The least severe record that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line looks."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Form:
    """How users write the values of an option, and how we write them back."""

    metavar: str
    write: Callable[[Any], str] = str


def parse_size(text: str) -> int:
    """Return bytes: ``64M`` and ``64MiB`` are binary, ``64MB`` is decimal, a bare number is bytes.

    Raises:
        ValueError: ``text`` is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'"{text}" is not a size; write it like 64M or 1GiB')
    number, unit, suffix = match.groups()
    base = 1000 if suffix and suffix.upper() == "B" else 1024
    return int(Decimal(number) * base ** (" KMGT".index(unit.upper()) if unit else 0))


def parse_duration(text: str) -> float:
    """Return seconds: ``30``, ``30s``, ``500ms``, ``5m``, ``1h``.

    Raises:
        ValueError: ``text`` is not a duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'"{text}" is not a duration; write it like 30s or 5m')
    return float(match[1]) * _SECONDS_PER[match[2] or "s"]


def parse_mode(text: str) -> int:
    """Return permission bits, written in octal: ``644``, ``0644``, ``0o644``.

    Raises:
        ValueError: ``text`` is not octal, or not within 0 to 0777.
    """
    if re.fullmatch(r"(0o)?0*[0-7]{1,3}", text) is None:
        raise ValueError(f'"{text}" is not a mode; write it in octal, like 0644')
    return int(text, 8)


def parse_id(text: str) -> int:
    """Return a numeric user or group id.

    Raises:
        ValueError: ``text`` is not a whole number.
    """
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f'"{text}" is not a number; give the numeric id')
    return int(text)


def format_size(size: int) -> str:
    """Write bytes so that ``parse_size`` reads the same number: ``64M``, ``1500``."""
    for unit, factor in (("T", 2**40), ("G", GIB), ("M", MIB), ("K", KIB)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def format_duration(seconds: float) -> str:
    """Write seconds so that ``parse_duration`` reads the same number: ``30s``, ``0.5s``."""
    return f"{seconds:f}".rstrip("0").rstrip(".") + "s"


def _text_first(parse: Callable[[str], float]) -> Callable[[object], object]:
    """Parse text; let numbers through to pydantic; refuse booleans, which pydantic would take for 0 and 1."""

    def convert(value: object) -> object:
        if isinstance(value, bool):
            raise ValueError(f"{str(value).lower()} is not a number")  # noqa: TRY004 - pydantic collects ValueErrors
        return parse(value) if isinstance(value, str) else value

    return convert


def _at_least(least: int) -> AfterValidator:
    def check(size: int) -> int:
        if size < least:
            raise ValueError(f"{format_size(size)} is too little; give at least {format_size(least)}")
        return size

    return AfterValidator(check)


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``; an IPv6 address stands in brackets.

    Raises:
        ValueError: It is none.
    """
    host, _, port = text.rpartition(":")
    if not host.strip("[]") or not (port.isascii() and port.isdigit()) or not 0 <= int(port) < 2**16:
        raise ValueError(f'"{text}" is not an address; write it like 127.0.0.1:9400')
    return host.strip("[]"), int(port)


def _listen_address(text: str | None) -> str | None:
    if text is not None:
        split_address(text)
    return text


def _rate(limit: int) -> int:
    """Let through what a mount can live with: 0 is no limit."""
    if 0 < limit < LEAST_BYTES_PER_SECOND:
        raise ValueError(
            f"{format_size(limit)} a second is too little; give at least {format_size(LEAST_BYTES_PER_SECOND)}"
        )
    return limit


def _absolute(path: Path | None) -> Path | None:
    """Expand ``~`` and make absolute, for the daemon leaves the current directory."""
    if path is None:
        return None
    if path == Path():
        raise ValueError("the path is empty")
    return Path(os.path.abspath(os.path.expanduser(path)))


def _holds_certificates(path: Path | None) -> Path | None:
    """Load the file as a connection will."""
    if path is None:
        return None
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise ValueError(f"{path} holds no certificate that can be used; give a PEM file") from error
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    return path


def _endpoint_url(text: str | None) -> str | None:
    """Return ``scheme://host[:port]``. Plain http is judged later, together with ``allow_insecure``."""
    return None if text is None else resolve_endpoint(None, text, allow_insecure=True).url


def _region_name(text: str | None) -> str | None:
    return None if text is None else resolve_endpoint(text, None).region


def _command_line(text: str | None) -> str | None:
    """Make sure that the text is a command; what it does is the user's business."""
    if text is None:
        return None
    try:
        words = shlex.split(text)
    except ValueError as error:  # an open quotation; its message quotes nothing
        raise ValueError(f"not a command: {error}") from error
    if not words:
        raise ValueError("the command is empty")
    return text


def _xdg_directory(variable: str, below_home: str, for_root: str) -> Path:
    """Return our folder below an XDG base directory, or the system's for root."""
    if os.geteuid() == 0:
        return Path(for_root)
    base = Path(os.environ.get(variable, ""))
    return (base if base.is_absolute() else Path(os.path.expanduser("~")) / below_home) / "spacesfs"


def default_cache_dir() -> Path:
    """Return ``$XDG_CACHE_HOME/spacesfs``, or ``/var/cache/spacesfs`` for root."""
    return _xdg_directory("XDG_CACHE_HOME", ".cache", "/var/cache/spacesfs")


def default_state_dir() -> Path:
    """Return ``$XDG_STATE_HOME/spacesfs``, or ``/var/lib/spacesfs`` for root."""
    return _xdg_directory("XDG_STATE_HOME", ".local/state", "/var/lib/spacesfs")


Url = Annotated[str | None, AfterValidator(_endpoint_url), Form("URL")]
Region = Annotated[str | None, AfterValidator(_region_name), Form("NAME")]
Profile = Annotated[str | None, Field(min_length=1), Form("NAME")]
CommandLine = Annotated[str | None, AfterValidator(_command_line), Form("COMMAND")]
Size = Annotated[int, BeforeValidator(_text_first(parse_size)), Form("SIZE", format_size)]
Rate = Annotated[int, BeforeValidator(_text_first(parse_size)), AfterValidator(_rate), Form("SIZE", format_size)]
Seconds = Annotated[
    float,
    Field(le=86_400, allow_inf_nan=False),
    BeforeValidator(_text_first(parse_duration)),
    Form("TIME", format_duration),
]
Mode = Annotated[int, Field(ge=0, le=0o777), BeforeValidator(_text_first(parse_mode)), Form("MODE", "{:04o}".format)]
Id = Annotated[
    int, Field(ge=0, lt=2**32 - 1), BeforeValidator(_text_first(parse_id)), Form("ID")
]  # 2**32 - 1 means "none"
Folder = Annotated[Path, AfterValidator(_absolute), Form("DIR")]
ListenAddress = Annotated[str | None, AfterValidator(_listen_address), Form("HOST:PORT")]
OptionalFile = Annotated[Path | None, AfterValidator(_absolute), Form("FILE")]


class Options(BaseSettings):
    """The options of a mount, whichever bucket it shows. Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, env_ignore_empty=True)

    endpoint: Url = Field(default=None, description="Server to speak to; follows from the region when not given.")
    region: Region = Field(
        default=None, description="Region of the Space; follows from the endpoint, or is found, when not given."
    )
    profile: Profile = Field(default=None, description="Profile of the AWS credentials file to take the keys from.")
    credential_command: CommandLine = Field(
        default=None, description="Command that prints the key: as JSON, or its id and its secret on two lines."
    )
    read_only: bool = Field(default=False, description="Refuse every change.")
    durability: Durability = Field(
        default=Durability.JOURNAL,
        description="What an acknowledged change means: safe in the journal here; there, and after fsync in the Space; "
        "always in the Space.",
    )
    grace: Annotated[Seconds, Field(ge=0)] = Field(
        default=1.0, description="How long a change waits at most for later ones that spare it a request."
    )
    uid: Id = Field(default_factory=os.getuid, description="Owner of files that name none.")
    gid: Id = Field(default_factory=os.getgid, description="Group of files that name none.")
    file_mode: Mode = Field(default=0o644, description="Permissions of files that name none, in octal.")
    dir_mode: Mode = Field(default=0o755, description="Permissions of directories that name none, in octal.")
    attributes: AttributeSource = Field(
        default=AttributeSource.SPACE,
        description="Whose modes, owners and times are shown: those that objects carry, at one request for each new "
        "version; or what the server lists, its time and the defaults, at none.",
    )
    allow_other: bool = Field(default=False, description="Let other users of this host use the mount.")
    cache_dir: Folder = Field(default_factory=default_cache_dir, description="Where what was read is kept for later.")
    cache_size: Annotated[Size, _at_least(16 * MIB)] = Field(
        default=10 * GIB,
        description="Most disk space for what was read, and for changes that are not in the Space yet, together.",
    )
    state_dir: Folder = Field(
        default_factory=default_state_dir,
        description="Where the journal is: what is acknowledged and not in the Space yet.",
    )
    memory: Annotated[Size, _at_least(16 * MIB)] = Field(
        default=128 * MIB, description="Most memory to use for contents."
    )
    metadata_ttl: Annotated[Seconds, Field(ge=0)] = Field(
        default=5.0, description="How long names and attributes are believed without asking the Space again."
    )
    timeout: Annotated[Seconds, Field(gt=0)] = Field(
        default=30.0, description="How long a file operation may wait without bytes moving."
    )
    limit_down: Rate = Field(default=0, description="Most bytes a second from the Space; 0 for no limit.")
    limit_up: Rate = Field(default=0, description="Most bytes a second to the Space; 0 for no limit.")
    hang_timeout: Annotated[Seconds, Field(ge=0)] = Field(
        default=15.0,
        description="How long a mount in the background may show no sign of life before a fresh process replaces it; "
        "0 for ever.",
    )
    allow_insecure: bool = Field(default=False, description="Allow plain http to other hosts than this one.")
    ca_bundle: Annotated[OptionalFile, AfterValidator(_holds_certificates)] = Field(
        default=None, description="Certificates to trust (PEM), instead of the system's."
    )
    metrics_listen: ListenAddress = Field(
        default=None, description="Answer Prometheus on this address, with no password; nobody can ask when not given."
    )
    log_file: OptionalFile = Field(default=None, description="Log to this file, instead of the system log.")
    log_level: LogLevel = Field(default=LogLevel.INFO, description="Least severe messages to log.")
    log_format: LogFormat = Field(
        default=LogFormat.TEXT, description="How a log line looks: for people, or one JSON object."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the caller only: which place they come from is the command line's business."""
        return (init_settings,)

    @property
    def is_located(self) -> bool:
        """Whether the user has said where the Space is."""
        return self.endpoint is not None or self.region is not None

    @property
    def address(self) -> Endpoint:
        """Where the Space is; each of endpoint and region follows from the other when only one is given.

        Raises:
            EndpointError: Neither is given, or the endpoint is plain http to another host and not allowed.
        """
        return resolve_endpoint(self.region, self.endpoint, allow_insecure=self.allow_insecure)


class SpaceConfig(Options):
    """A Space and how to deal with it, all of it checked: ``address`` raises no more if it ``is_located``.

    Attributes:
        prefix: Which part of the bucket: empty, or ending in ``/``.
    """

    bucket: str
    prefix: str = ""

    @model_validator(mode="after")
    def _check_space(self) -> Self:
        if _BUCKET.fullmatch(self.bucket) is None:
            raise ValueError(f'"{self.bucket}" is not a bucket name; give BUCKET or BUCKET:PREFIX')
        if self.is_located:
            self._check_address()
        return self

    def _check_address(self) -> None:
        try:
            address = self.address
        except EndpointError as error:  # each alone is valid, so what is left is plain http
            raise ValueError(f"{error} (--allow-insecure)") from error
        if address.url.partition("://")[2].startswith(f"{self.bucket}."):
            raise ValueError(f"the endpoint {self.endpoint} holds the bucket's name; leave the name out")


class MountConfig(SpaceConfig):
    """One mount. ``mountpoint`` is absolute, symbolic links resolved."""

    mountpoint: Path

    @model_validator(mode="after")
    def _check_mountpoint(self) -> Self:
        if not _is_utf8(self.mountpoint):
            raise ValueError(f"{str(self.mountpoint)!a} can't be a mountpoint: its name is not UTF-8")
        for name in ("cache_dir", "state_dir", "log_file"):
            path = getattr(self, name)
            if path is not None and path.resolve().is_relative_to(self.mountpoint):
                raise ValueError(f"{flag_name(name)} {path} lies in the mountpoint; choose a folder outside of it")
        return self


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Option:
    """One option as users meet it."""

    name: str
    field: FieldInfo

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return flag_name(self.name)

    @property
    def key(self) -> str:
        """Its key in the TOML files."""
        return self.flag.removeprefix("--")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off and takes no value."""
        return self.field.annotation is bool

    @property
    def metavar(self) -> str:
        """What stands for the value in a help text; empty for a switch."""
        if self.is_switch:
            return ""
        kind = self.field.annotation
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return "|".join(kind)
        return self._form.metavar

    @property
    def help(self) -> str:
        """What it means, in a sentence."""
        return self.field.description or ""

    def write(self, value: object) -> str:
        """Write a value as users would."""
        if value is None:
            return ""
        return str(value).lower() if isinstance(value, bool) else self._form.write(value)

    @property
    def _form(self) -> Form:
        return next((part for part in self.field.metadata if isinstance(part, Form)), Form("TEXT"))


def flag_name(name: str) -> str:
    """Return the command line flag of a field."""
    return "--" + name.replace("_", "-")


def first_reason(error: ValidationError) -> tuple[str, str]:
    """Return the name of the first field that is wrong, empty if it is none alone, and why."""
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be").replace("'", '"')
    return (str(first["loc"][0]) if first["loc"] else ""), reason


OPTIONS: Mapping[str, Option] = {name: Option(name, field) for name, field in Options.model_fields.items()}
