"""All places where an access key may be, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spacesfs.client.credentials import Credentials, EnvironmentProvider, Provider, config_home, first_found
from spacesfs.client.credentials_command import CommandProvider
from spacesfs.client.credentials_files import ProfileProvider, RcloneProvider, S3cmdProvider, S3fsProvider

_VARIABLES = (
    ("SPACES_ACCESS_KEY_ID", "SPACES_SECRET_ACCESS_KEY", None),  # Terraform, Pulumi
    ("SPACES_KEY", "SPACES_SECRET", None),  # DigitalOcean's own examples
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    ("AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN"),  # s3cmd
)


@dataclass(frozen=True, slots=True)
class KeySearch:
    """What leads to an access key.

    Attributes:
        environ: The environment variables.
        home: The user's home directory.
        profile: Name of an AWS profile that must exist; nothing else is asked then.
        command: A command that prints the key; without a profile nothing else is asked then.
        bucket: What the key is for; files may hold a key for one bucket.
        system: The host's folder of settings.
    """

    environ: Mapping[str, str] = field(repr=False)
    home: Path
    profile: str | None = None
    command: str | None = None
    bucket: str | None = None
    system: Path = Path("/etc")

    def find(self) -> Credentials:
        """Ask all places, in order. May block.

        Raises:
            CredentialsError: None has a key, or the first one found is unusable.
        """
        return first_found(self._providers())

    def _providers(self) -> list[Provider]:
        if self.profile:
            return [self._profile(self.profile, is_required=True)]
        if self.command:
            return [CommandProvider(self.command, self.environ)]
        named = self.environ.get("AWS_PROFILE")
        return [
            *(EnvironmentProvider(self.environ, *names) for names in _VARIABLES),
            self._profile(named or "default", is_required=bool(named)),
            S3cmdProvider(self._path("S3CMD_CONFIG", self.home / ".s3cfg")),
            S3fsProvider(self.home / ".passwd-s3fs", self.system / "passwd-s3fs", self.bucket),
            RcloneProvider(
                self._path("RCLONE_CONFIG", config_home(self.environ, self.home) / "rclone" / "rclone.conf"),
                self.environ,
            ),
        ]

    def _profile(self, name: str, *, is_required: bool) -> ProfileProvider:
        folder = self.home / ".aws"
        return ProfileProvider(
            profile=name,
            credentials_file=self._path("AWS_SHARED_CREDENTIALS_FILE", folder / "credentials"),
            config_file=self._path("AWS_CONFIG_FILE", folder / "config"),
            is_required=is_required,
        )

    def _path(self, variable: str, default: Path) -> Path:
        """Return the path that a variable names, with its leading ``~/`` resolved, or the default."""
        named = self.environ.get(variable)
        if not named:
            return default
        return self.home / named.removeprefix("~/") if named.startswith("~/") else Path(named)
