"""Where the access key comes from: a chain of small providers, the first that has one wins."""

from __future__ import annotations

import configparser
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

_READABLE_BY_OTHERS = 0o044


class CredentialsError(Exception):
    """No usable access key; the message is one line that says what to do, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key. ``source`` says for the user where it was found."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    source: str = "given"


class Provider(Protocol):
    """One place where an access key may be."""

    def find(self) -> Credentials | None:
        """Return the key, or None when this place holds none.

        Raises:
            CredentialsError: There is something, but it can't be used.
        """


def find_credentials(environ: Mapping[str, str], *, profile: str | None = None, home: Path) -> Credentials:
    """Find the access key: an explicit profile, the environment, the AWS profile files.

    Args:
        environ: The environment variables.
        profile: Name of an AWS profile that must exist; it goes before everything else.
        home: The user's home directory.

    Raises:
        CredentialsError: None was found, or the first one found is unusable.
    """
    providers = _chain(environ, profile, home)
    return first_found(providers)


def first_found(providers: Iterable[Provider]) -> Credentials:
    """Return the key of the first provider that has one.

    Raises:
        CredentialsError: None has, or the first one found is unusable.
    """
    for provider in providers:
        found = provider.find()
        if found is not None:
            return found
    raise CredentialsError("no access key found; set SPACES_ACCESS_KEY_ID and SPACES_SECRET_ACCESS_KEY")


@dataclass(frozen=True, slots=True)
class EnvironmentProvider:
    """A pair of environment variables, and maybe a third with a session token."""

    environ: Mapping[str, str] = field(repr=False)
    id_name: str
    secret_name: str
    token_name: str | None = None

    def find(self) -> Credentials | None:
        """Return the key if both variables are set; one alone is an error."""
        token = self.environ.get(self.token_name) if self.token_name else None
        return _pair(
            (self.id_name, self.environ.get(self.id_name)),
            (self.secret_name, self.environ.get(self.secret_name)),
            token,
            source="environment",
        )


@dataclass(frozen=True, slots=True)
class ProfileProvider:
    """A profile in the credentials and config files of AWS tools.

    ``is_required`` makes a missing profile an error: the user named it.
    """

    profile: str
    credentials_file: Path
    config_file: Path
    is_required: bool = False

    def find(self) -> Credentials | None:
        """Return the profile's key; the credentials file goes before the config file."""
        in_config = self.profile if self.profile == "default" else f"profile {self.profile}"
        for path, section in ((self.credentials_file, self.profile), (self.config_file, in_config)):
            found = _from_file(path, section)
            if found is not None:
                return found
        if self.is_required:
            raise CredentialsError(
                f"profile {self.profile!r} has no access key in {self.credentials_file} or {self.config_file}"
            )
        return None


def _chain(environ: Mapping[str, str], profile: str | None, home: Path) -> list[Provider]:
    """Return the providers in the order they are asked."""
    named = profile or environ.get("AWS_PROFILE")
    files = ProfileProvider(
        profile=named or "default",
        credentials_file=_file(environ, "AWS_SHARED_CREDENTIALS_FILE", home / ".aws" / "credentials", home),
        config_file=_file(environ, "AWS_CONFIG_FILE", home / ".aws" / "config", home),
        is_required=named is not None,
    )
    if profile:
        return [files]
    return [
        EnvironmentProvider(environ, "SPACES_ACCESS_KEY_ID", "SPACES_SECRET_ACCESS_KEY"),
        EnvironmentProvider(environ, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        files,
    ]


def _file(environ: Mapping[str, str], variable: str, default: Path, home: Path) -> Path:
    """Return the path that a variable names, with its leading ``~/`` resolved, or the default."""
    named = environ.get(variable)
    if not named:
        return default
    return home / named.removeprefix("~/") if named.startswith("~/") else Path(named)


def _from_file(path: Path, section: str) -> Credentials | None:
    """Return the access key in one section of one file."""
    values = _read_section(path, section)
    found = _pair(
        ("aws_access_key_id", values.get("aws_access_key_id")),
        ("aws_secret_access_key", values.get("aws_secret_access_key")),
        values.get("aws_session_token"),
        source=f"{path} [{section}]",
    )
    if found is not None and path.stat().st_mode & _READABLE_BY_OTHERS:
        raise CredentialsError(f"{path} can be read by other users; run: chmod 600 {path}")
    return found


def _read_section(path: Path, section: str) -> Mapping[str, str]:
    """Return what a section of an ini file holds; nothing if the file or the section does not exist."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, default_section="")
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CredentialsError(f"{path} can't be read: {error.strerror}") from None
    except (configparser.Error, UnicodeDecodeError):
        raise CredentialsError(f"{path} is not a valid ini file") from None  # the parser's message quotes the line
    return dict(parser[section]) if parser.has_section(section) else {}


def _pair(
    access_key_id: tuple[str, str | None], secret: tuple[str, str | None], token: str | None, *, source: str
) -> Credentials | None:
    """Make credentials of two named values; None if both are missing, an error if one is."""
    values = []
    for name, value in (access_key_id, secret):
        text = (value or "").strip()
        if not (text.isascii() and text.isprintable()) or " " in text:
            raise CredentialsError(f"{name} ({source}) holds characters that no access key has")
        values.append((name, text))
    missing = [name for name, text in values if not text]
    if len(missing) == len(values):
        return None
    if missing:
        present = next(name for name, text in values if text)
        raise CredentialsError(f"{present} is set but {missing[0]} is not ({source}); set both")
    return Credentials(values[0][1], values[1][1], (token or "").strip() or None, source)
