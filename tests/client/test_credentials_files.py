"""Access keys where other tools keep them: s3cmd, s3fs, rclone; and the API's token where doctl keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from spacesfs.client.credentials import Credentials, CredentialsError
from spacesfs.client.credentials_chain import KeySearch
from spacesfs.client.credentials_token import find_api_token

S3CMD = """
[default]
access_key = S3CMDID
secret_key = s3cmd%secret
access_token =
host_base = nyc3.digitaloceanspaces.com
host_bucket = %(bucket)s.nyc3.digitaloceanspaces.com
"""
RCLONE = """
[my-space]
type = s3
provider = DigitalOcean
access_key_id = SPACEID
secret_access_key = space-secret
endpoint = nyc3.digitaloceanspaces.com

[amazon]
type = s3
provider = AWS
access_key_id = AMAZONID
secret_access_key = amazon-secret

[disk]
type = local
"""
DOCTL = """access-token: doctl-token
api-url: ""
auth-contexts:
  work: work-token
  default: not-this-one
compute:
  droplet:
    access-token: nor-this
context: default
"""


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def find(home: Path, environ: dict[str, str] | None = None, bucket: str | None = None) -> Credentials:
    """Search a home and nothing of this host."""
    return KeySearch(environ or {}, home, bucket=bucket, system=home / "etc").find()


def test_s3cmd(tmp_path: Path) -> None:
    path = write(tmp_path / ".s3cfg", S3CMD)
    found = find(tmp_path)
    assert found == Credentials("S3CMDID", "s3cmd%secret")
    assert found.source == f"{path} [default]"
    path.rename(tmp_path / "elsewhere")
    assert find(tmp_path, {"S3CMD_CONFIG": "~/elsewhere"}) == found


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("ID:secret\n", None, ("ID", "secret")),
        ("ID:secret", "my-bucket", ("ID", "secret")),
        ("# mine\n\nmy-bucket:ID:secret\nOTHER:other\n", "my-bucket", ("ID", "secret")),
        ("my-bucket:ID:secret\nOTHER:other\n", "another", ("OTHER", "other")),
        ("ID:se=cret/+\n", None, ("ID", "se=cret/+")),
        ("AWSAccessKeyId=ID\nAWSSecretKey=se:cr=et\n", "my-bucket", ("ID", "se:cr=et")),
    ],
)
def test_s3fs(tmp_path: Path, text: str, bucket: str | None, key: tuple[str, str]) -> None:
    write(tmp_path / ".passwd-s3fs", text)
    assert find(tmp_path, bucket=bucket) == Credentials(*key)


def test_the_s3fs_file_of_the_host_may_be_read_by_a_group(tmp_path: Path) -> None:
    path = write(tmp_path / "etc" / "passwd-s3fs", "ID:secret\n", 0o640)
    assert find(tmp_path).source == f"{path} line 1"
    path.chmod(0o644)
    with pytest.raises(CredentialsError, match=f"chmod 640 {path}"):
        find(tmp_path)
    write(tmp_path / ".passwd-s3fs", "MINE:secret\n")
    assert find(tmp_path).access_key_id == "MINE"


def test_an_s3fs_file_for_other_buckets_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / ".passwd-s3fs", "another:ID:secret\n", 0o644)
    with pytest.raises(CredentialsError, match="no access key found"):
        find(tmp_path, bucket="my-bucket")


@pytest.mark.parametrize("line", ["geheim", "a:b:geheim:c", ":geheim", "ID:", "ID:ge heim", "AWSSecretKey=geheim"])
def test_a_broken_s3fs_file_is_not_quoted(tmp_path: Path, line: str) -> None:
    write(tmp_path / ".passwd-s3fs", f"{line}\n")
    with pytest.raises(CredentialsError, match="passwd-s3fs") as refusal:
        find(tmp_path)
    assert "heim" not in str(refusal.value)


def test_an_rclone_remote_at_digitalocean_goes_before_others(tmp_path: Path) -> None:
    path = write(tmp_path / ".config" / "rclone" / "rclone.conf", RCLONE)
    found = find(tmp_path)
    assert (found, found.source) == (Credentials("SPACEID", "space-secret"), "rclone remote my_space")
    elsewhere = write(tmp_path / "xdg" / "rclone" / "rclone.conf", RCLONE.replace("DigitalOcean", "Other"))
    path.unlink()
    assert find(tmp_path, {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}) == found  # by its endpoint
    assert find(tmp_path, {"RCLONE_CONFIG": str(elsewhere)}) == found


def test_rclone_variables_go_before_its_file(tmp_path: Path) -> None:
    write(tmp_path / ".config" / "rclone" / "rclone.conf", RCLONE, 0o644)
    environ = {"RCLONE_CONFIG_MY_SPACE_SECRET_ACCESS_KEY": "another-secret", "RCLONE_CONFIG_MY_SPACE_REGION": "x"}
    assert find(tmp_path, environ) == Credentials("SPACEID", "another-secret")


def test_an_rclone_remote_of_variables_alone(tmp_path: Path) -> None:
    options = {"TYPE": "s3", "PROVIDER": "Ceph", "ACCESS_KEY_ID": "ID", "SECRET_ACCESS_KEY": "secret"}
    environ = {f"RCLONE_CONFIG_A_B_{name}": value for name, value in options.items()}
    assert find(tmp_path, environ) == Credentials("ID", "secret")
    with pytest.raises(CredentialsError, match="no access key found"):
        find(tmp_path, environ | {"RCLONE_CONFIG_A_B_TYPE": "local"})


def test_rclone_remotes_with_one_key_are_one(tmp_path: Path) -> None:
    path = write(tmp_path / ".config" / "rclone" / "rclone.conf", RCLONE + RCLONE.replace("my-space", "again"))
    assert find(tmp_path).access_key_id == "SPACEID"
    write(path, RCLONE + RCLONE.replace("my-space", "again").replace("space-secret", "other-secret"))
    with pytest.raises(CredentialsError, match="again, my_space"):
        find(tmp_path)


def test_an_encrypted_rclone_file_is_named(tmp_path: Path) -> None:
    path = write(
        tmp_path / ".config" / "rclone" / "rclone.conf",
        "# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nab",
    )
    with pytest.raises(CredentialsError, match=f"{path}, which is encrypted"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"), [(".s3cfg", S3CMD), (".passwd-s3fs", "ID:secret"), (".config/rclone/rclone.conf", RCLONE)]
)
def test_files_that_others_can_read_are_refused(tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path / name, text, 0o644)
    with pytest.raises(CredentialsError, match=f"chmod 600 {path}"):
        find(tmp_path)


def test_the_order_of_places(tmp_path: Path) -> None:
    write(tmp_path / ".config" / "rclone" / "rclone.conf", RCLONE)
    assert find(tmp_path).access_key_id == "SPACEID"
    write(tmp_path / "etc" / "passwd-s3fs", "S3FSID:secret")
    assert find(tmp_path).access_key_id == "S3FSID"
    write(tmp_path / ".s3cfg", S3CMD)
    assert find(tmp_path).access_key_id == "S3CMDID"
    write(tmp_path / ".aws" / "credentials", "[default]\naws_access_key_id=AWSID\naws_secret_access_key=secret\n")
    assert find(tmp_path).access_key_id == "AWSID"
    environ = {"SPACES_KEY": "SHORT", "SPACES_SECRET": "secret", "AWS_ACCESS_KEY": "OLD", "AWS_SECRET_KEY": "secret"}
    assert find(tmp_path, environ).access_key_id == "SHORT"


@pytest.mark.parametrize(
    ("environ", "token"),
    [
        ({}, "doctl-token"),
        ({"DIGITALOCEAN_CONTEXT": "work"}, "work-token"),
        ({"DIGITALOCEAN_ACCESS_TOKEN": "from-variable"}, "from-variable"),
        ({"DIGITALOCEAN_ACCESS_TOKEN": "a", "DIGITALOCEAN_TOKEN": "terraform"}, "terraform"),
        ({"DIGITALOCEAN_ACCESS_TOKEN": "a", "DIGITALOCEAN_CONTEXT": "work"}, "work-token"),
        ({"DIGITALOCEAN_ACCESS_TOKEN": "a", "DIGITALOCEAN_CONTEXT": "default"}, "a"),
    ],
)
def test_the_api_token(tmp_path: Path, environ: dict[str, str], token: str) -> None:
    write(tmp_path / ".config" / "doctl" / "config.yaml", DOCTL)
    found = find_api_token(environ, home=tmp_path)
    assert found.value == token
    assert token not in repr(found)


def test_the_context_in_doctls_file(tmp_path: Path) -> None:
    path = write(tmp_path / "doctl" / "config.yaml", DOCTL.replace("context: default", "context: 'work'"))
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert find_api_token(environ, home=tmp_path).value == "work-token"
    path.chmod(0o640)
    with pytest.raises(CredentialsError, match=f"chmod 600 {path}"):
        find_api_token(environ, home=tmp_path)


def test_no_api_token(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="no API token found; set DIGITALOCEAN_ACCESS_TOKEN"):
        find_api_token({}, home=tmp_path)
    write(tmp_path / ".config" / "doctl" / "config.yaml", DOCTL)
    with pytest.raises(CredentialsError, match="no token for context elsewhere"):
        find_api_token({"DIGITALOCEAN_CONTEXT": "elsewhere"}, home=tmp_path)
    with pytest.raises(CredentialsError, match="characters that no API token has"):
        find_api_token({"DIGITALOCEAN_TOKEN": "two words"}, home=tmp_path)
