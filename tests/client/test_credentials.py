"""Where access keys are found, in which order, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from spacesfs.client.credentials import Credentials, CredentialsError
from spacesfs.client.credentials_chain import KeySearch

SPACES = {"SPACES_ACCESS_KEY_ID": "SPACESID", "SPACES_SECRET_ACCESS_KEY": "spaces-secret"}
AWS = {"AWS_ACCESS_KEY_ID": "AWSID", "AWS_SECRET_ACCESS_KEY": "aws-secret", "AWS_SESSION_TOKEN": "aws-token"}
CREDENTIALS = """
[default]
aws_access_key_id = FILEID
aws_secret_access_key = file%secret
[work]
aws_access_key_id = WORKID
aws_secret_access_key = work-secret
aws_session_token = work-token
[half]
aws_access_key_id = HALFID
"""
CONFIG = """
[profile config-only]
aws_access_key_id = CONFIGID
aws_secret_access_key = config-secret
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with AWS profile files."""
    (tmp_path / ".aws").mkdir()
    for name, text in (("credentials", CREDENTIALS), ("config", CONFIG)):
        (tmp_path / ".aws" / name).write_text(text)
        (tmp_path / ".aws" / name).chmod(0o600)
    return tmp_path


def find(environ: dict[str, str], home: Path, **known: str) -> Credentials:
    """Search a home and nothing of this host."""
    return KeySearch(environ, home, system=home / "etc", **known).find()


def test_spaces_variables_go_first(home: Path) -> None:
    found = find(SPACES | AWS, home)
    assert found == Credentials("SPACESID", "spaces-secret")
    assert found.source == "environment"


def test_aws_variables_go_before_files(home: Path) -> None:
    assert find(AWS, home) == Credentials("AWSID", "aws-secret", "aws-token")


def test_the_default_profile_is_last(home: Path) -> None:
    found = find({}, home)
    assert (found.access_key_id, found.secret_access_key) == ("FILEID", "file%secret")
    assert found.source == f"{home}/.aws/credentials [default]"


def test_an_explicit_profile_goes_before_everything(home: Path) -> None:
    found = find(SPACES | AWS, home, profile="work")
    assert (found.access_key_id, found.session_token) == ("WORKID", "work-token")


def test_the_profile_variable_names_one(home: Path) -> None:
    assert find({"AWS_PROFILE": "config-only"}, home).access_key_id == "CONFIGID"


def test_file_variables(home: Path) -> None:
    elsewhere = home / "elsewhere"
    (home / ".aws" / "credentials").rename(elsewhere)
    assert find({"AWS_SHARED_CREDENTIALS_FILE": "~/elsewhere"}, home).access_key_id == "FILEID"
    assert find({"AWS_SHARED_CREDENTIALS_FILE": str(elsewhere)}, home).access_key_id == "FILEID"


@pytest.mark.parametrize("profile", ["missing", "half", "default] [work"])
def test_a_profile_that_cannot_be_used_is_an_error(home: Path, profile: str) -> None:
    with pytest.raises(CredentialsError):
        find(SPACES, home, profile=profile)


@pytest.mark.parametrize("missing", list(SPACES))
def test_half_a_pair_is_an_error(home: Path, missing: str) -> None:
    half = {name: value for name, value in SPACES.items() if name != missing}
    with pytest.raises(CredentialsError, match=f"{missing} is not"):
        find(half | AWS, home)


def test_an_empty_variable_is_not_set(home: Path) -> None:
    assert find(dict.fromkeys(SPACES, "") | AWS, home).access_key_id == "AWSID"


def test_nothing_found(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="set SPACES_ACCESS_KEY_ID and SPACES_SECRET_ACCESS_KEY"):
        find({}, tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_can_read_is_refused(home: Path, mode: int) -> None:
    path = home / ".aws" / "credentials"
    path.chmod(mode)
    with pytest.raises(CredentialsError, match=f"chmod 600 {path}"):
        find({}, home)


def test_a_readable_file_without_keys_is_no_matter(home: Path) -> None:
    (home / ".aws" / "config").chmod(0o644)
    assert find({"AWS_PROFILE": "work"}, home).access_key_id == "WORKID"


@pytest.mark.parametrize("content", [b"[default\naws_secret_access_key = hunter2", b"hunter2", b"[default]\nx = \xff"])
def test_a_broken_file_is_an_error_that_does_not_quote_it(home: Path, content: bytes) -> None:
    path = home / ".aws" / "credentials"
    path.write_bytes(content)
    with pytest.raises(CredentialsError, match="not a valid") as refusal:
        find({}, home)
    assert "hunter2" not in str(refusal.value)


def test_a_file_that_cannot_be_read_is_an_error(home: Path) -> None:
    path = home / ".aws" / "credentials"
    path.unlink()
    path.mkdir()
    with pytest.raises(CredentialsError, match="can't be read: Is a directory"):
        find({}, home)


@pytest.mark.parametrize("secret", ["two words", "line\nbreak", "caf\xe9"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(tmp_path: Path, secret: str) -> None:
    with pytest.raises(CredentialsError, match="SPACES_SECRET_ACCESS_KEY") as refusal:
        find(SPACES | {"SPACES_SECRET_ACCESS_KEY": secret}, tmp_path)
    assert secret not in str(refusal.value)


def test_surrounding_blanks_are_dropped(tmp_path: Path) -> None:
    found = find(SPACES | {"SPACES_SECRET_ACCESS_KEY": " spaces-secret\n"}, tmp_path)
    assert found.secret_access_key == "spaces-secret"


def test_secrets_stay_out_of_the_repr() -> None:
    shown = repr(Credentials("ID", "the-secret", "the-token"))
    assert "the-secret" not in shown
    assert "the-token" not in shown
