"""Access keys in the files of other tools: AWS profiles, s3cmd, s3fs and rclone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spacesfs.client.credentials import (
    READABLE_BY_OTHERS,
    Credentials,
    CredentialsError,
    credentials_of,
    read_secret_file,
)
from spacesfs.client.endpoint import SPACES_DOMAIN

_READABLE_BY_ALL = 0o004
_S3FS_NAMES = ("AWSAccessKeyId", "AWSSecretKey", "")
_RCLONE_NAMES = ("access_key_id", "secret_access_key", "session_token")
_RCLONE_OPTIONS = "|".join(("type", "provider", "endpoint", *_RCLONE_NAMES))
_RCLONE_VARIABLE = re.compile(rf"RCLONE_CONFIG_(.+)_({_RCLONE_OPTIONS})", re.IGNORECASE)
_RCLONE_ENCRYPTED = re.compile("^RCLONE_ENCRYPT_", re.MULTILINE)

Values = Mapping[str, str]


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
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        in_config = self.profile if self.profile == "default" else f"profile {self.profile}"
        for path, section in ((self.credentials_file, self.profile), (self.config_file, in_config)):
            found = _from_section(path, section, names)
            if found is not None:
                return found
        if self.is_required:
            raise CredentialsError(
                f"profile {self.profile!r} has no access key in {self.credentials_file} or {self.config_file}"
            )
        return None


@dataclass(frozen=True, slots=True)
class S3cmdProvider:
    """The configuration of s3cmd."""

    path: Path

    def find(self) -> Credentials | None:
        """Return the key in the section ``default``, the only one that s3cmd reads."""
        return _from_section(self.path, "default", ("access_key", "secret_key", "access_token"))


@dataclass(frozen=True, slots=True)
class S3fsProvider:
    """The password files of s3fs: lines of ``KEY:SECRET`` or ``BUCKET:KEY:SECRET``.

    Attributes:
        user_file: The user's own file.
        system_file: The host's; as with s3fs a group may read it, and it is no error if we may not.
        bucket: Whose line goes before the general one.
    """

    user_file: Path
    system_file: Path
    bucket: str | None

    def find(self) -> Credentials | None:
        """Return the bucket's key or the general one; the user's file goes before the system's."""
        return _from_s3fs(self.user_file, self.bucket) or self._in_system_file()

    def _in_system_file(self) -> Credentials | None:
        try:
            self.system_file.open("rb").close()
        except OSError:
            return None
        return _from_s3fs(self.system_file, self.bucket, forbidden=_READABLE_BY_ALL)


@dataclass(frozen=True, slots=True)
class RcloneProvider:
    """The S3 remotes of rclone, in its file and in ``RCLONE_CONFIG_NAME_OPTION`` variables, which win over the file."""

    path: Path
    environ: Mapping[str, str] = field(repr=False)

    def find(self) -> Credentials | None:
        """Return the only key among the remotes at DigitalOcean, or else among all S3 remotes.

        Raises:
            CredentialsError: Several remotes have different keys, or the file can't be used.
        """
        file = read_secret_file(self.path)
        if file is not None and _RCLONE_ENCRYPTED.search(file.text):
            raise CredentialsError(f"no access key found but in {self.path}, which is encrypted; give it another way")
        in_file = file.sections() if file is not None else {}
        remotes = self._s3_remotes(in_file)
        at_spaces = {name: values for name, values in remotes.items() if _is_spaces(values)}
        found = self._the_only_key(at_spaces) or self._the_only_key(remotes)
        if file is not None and found is not None:
            secrets = {values.get("secret_access_key", "").strip() for values in in_file.values()}
            if found.secret_access_key in secrets:
                file.check_private()
        return found

    def _s3_remotes(self, in_file: Mapping[str, Values]) -> dict[str, Values]:
        """Return the options of all S3 remotes, by the name that they have in variables."""
        remotes = {name.upper().replace("-", "_"): dict(values) for name, values in in_file.items()}
        for variable, value in self.environ.items():
            match = _RCLONE_VARIABLE.fullmatch(variable)
            if match is not None:
                remotes.setdefault(match[1].upper(), {})[match[2].lower()] = value
        return {name: values for name, values in remotes.items() if values.get("type") == "s3"}

    def _the_only_key(self, remotes: Mapping[str, Values]) -> Credentials | None:
        keys: dict[Credentials, str] = {}
        for name, values in remotes.items():
            found = credentials_of(values, _RCLONE_NAMES, source=f"rclone remote {name.lower()}")
            if found is not None:
                keys.setdefault(found, name.lower())
        if len(keys) > 1:
            names = ", ".join(sorted(keys.values()))
            raise CredentialsError(f"rclone has several access keys ({names}) and no other place has one")
        return next(iter(keys), None)


def _is_spaces(values: Values) -> bool:
    """Tell whether an rclone remote is at DigitalOcean."""
    return values.get("provider", "").lower() == "digitalocean" or SPACES_DOMAIN in values.get("endpoint", "")


def _from_section(path: Path, section: str, names: tuple[str, str, str]) -> Credentials | None:
    """Return the access key in one section of an ini file."""
    file = read_secret_file(path)
    if file is None:
        return None
    found = credentials_of(file.sections().get(section, {}), names, source=f"{path} [{section}]")
    if found is not None:
        file.check_private()
    return found


def _from_s3fs(path: Path, bucket: str | None, forbidden: int = READABLE_BY_OTHERS) -> Credentials | None:
    """Return a bucket's key, or the general one, in a password file of s3fs."""
    file = read_secret_file(path)
    if file is None:
        return None
    keys: dict[str, Credentials] = {}
    named: dict[str, str] = {}
    for number, line in enumerate(file.text.splitlines(), 1):
        name, _, value = line.strip().partition("=")
        if name.rstrip() in _S3FS_NAMES and name:
            named[name.rstrip()] = value
        elif line.strip() and not line.startswith("#"):
            owner, key = _s3fs_line(line.strip(), f"{path} line {number}")
            keys[owner] = key
    general = credentials_of(named, _S3FS_NAMES, source=str(path)) or keys.get("")
    found = keys.get(bucket or "", general)
    if found is not None:
        file.check_private(forbidden)
    return found


def _s3fs_line(line: str, source: str) -> tuple[str, Credentials]:
    """Return whose key a line holds ("" for all buckets), and the key."""
    rest, _, secret = line.rpartition(":")
    bucket, _, key_id = rest.rpartition(":")
    key = credentials_of({"key": key_id, "secret": secret}, ("key", "secret", ""), source=source)
    if key is None or ":" in bucket:
        raise CredentialsError(f"{source} should be KEY:SECRET or BUCKET:KEY:SECRET")
    return bucket, key
