"""The checks of ``spacesfs doctor``: each says that something is well, or what to do. They leave nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import trio

from spacesfs.cli.output import human_bytes
from spacesfs.cli.spaces import Way
from spacesfs.client.client import Bucket
from spacesfs.client.errors import AccessDenied, NoSuchKey, SpacesError
from spacesfs.client.wire.stock import proxy_for
from spacesfs.config import Options
from spacesfs.errors import MountError
from spacesfs.fuse.mountpoint import FILE_SYSTEM_TYPE, FUSE_DEVICE, check_mountpoint

_ASK_SECONDS = 10.0
_TOLERATED_SKEW = timedelta(minutes=5)  # servers refuse at 15
_LEAST_FREE_BYTES = 1 << 30
_LEAST_READ_AHEAD_KIB = 1024  # below, the kernel asks for 128 KiB at once, at several times the CPU
_FUSE_CONF = Path("/etc/fuse.conf")
_UPDATEDB_CONF = Path("/etc/updatedb.conf")
_PRUNED = re.compile(r'^\s*PRUNEFS\s*=\s*"([^"]*)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. ``fix`` is what to do, or "" if all is well."""

    name: str
    text: str
    fix: str = ""


async def check_network(way: Way) -> AsyncIterator[Finding]:
    """Check the name, the certificate and the clock of a Space's server."""
    parts = urlsplit(way.endpoint.url)
    host, port = parts.hostname or "", parts.port or (443 if way.endpoint.is_secure else 80)
    proxy = proxy_for(way.endpoint.url, os.environ)
    if proxy is not None:
        yield Finding("proxy", "requests go through the proxy that the environment names")
    else:
        found = await trio.to_thread.run_sync(_resolve, host, port)
        yield found
        if found.fix:
            return
    try:
        reply = await trio.to_thread.run_sync(_ask, way, proxy)
    except httpx.TransportError as error:
        is_tls = "CERTIFICATE_VERIFY_FAILED" in str(error)
        fix = (
            "give the certificates to trust with --ca-bundle, or put the machine's clock right"
            if is_tls
            else "see whether a firewall or a proxy is in between"
        )
        yield Finding("TLS" if is_tls else "connection", f"{way.endpoint.url}: {error}", fix)
        return
    if way.endpoint.is_secure:
        yield Finding("TLS", f"the certificate of {host} is trusted")
    else:
        yield Finding("TLS", "not used: this endpoint is plain http")
    yield _clock(reply.headers.get("date", ""))


async def check_rights(bucket: Bucket) -> AsyncIterator[Finding]:
    """Check what the key may do, by operation."""
    try:
        page = await bucket.list_page("", max_keys=1)
    except SpacesError as error:
        yield Finding("list", str(error), "check the bucket's name, its region, and that the key is for it")
        return
    yield Finding("list", f"the key may list {bucket.name}")
    key = page.objects[0].key if page.objects else f".spacesfs-{uuid.uuid4()}"
    yield await _read(bucket, key)
    yield await _write(bucket)
    yield await _delete(bucket)


def check_mounting(options: Options) -> Iterator[Finding]:
    """Check what mounts need of this machine."""
    with tempfile.TemporaryDirectory(prefix="spacesfs-doctor-") as place:
        try:
            check_mountpoint(Path(place).resolve(), allow_other=False)
        except MountError as error:
            problem, _, fix = str(error).partition("; ")
            yield Finding("FUSE", problem, fix or "install fuse3")
        else:
            yield Finding("FUSE", f"{FUSE_DEVICE} can be used")
    yield _fuse_conf(options)
    yield _updatedb()
    for name, folder in (("cache", options.cache_dir), ("state", options.state_dir)):
        yield _folder(name, folder)
    yield _disk(options)


def check_read_ahead(mountpoint: Path) -> Finding:
    """Check how much the kernel reads ahead of a mount."""
    try:
        device = os.stat(mountpoint).st_dev
        path = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
        kib = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        return Finding("read-ahead", f"{mountpoint}: not known: {error}", "see whether /sys is mounted")
    if kib < _LEAST_READ_AHEAD_KIB:
        return Finding(
            "read-ahead", f"{mountpoint}: {kib} KiB, reads come in small pieces", f"as root: echo 4096 > {path}"
        )
    return Finding("read-ahead", f"{mountpoint}: {kib} KiB")


def _resolve(host: str, port: int) -> Finding:
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]
    except OSError as error:
        return Finding("DNS", f"{host}: {error.strerror}", "check the region or endpoint, and /etc/resolv.conf")
    return Finding("DNS", f"{host} is {address}")


def _ask(way: Way, proxy: str | None) -> httpx.Response:
    """Ask the server for nothing; any answer tells that it is there, and what time it has."""
    tls = ssl.create_default_context(cafile=way.config.ca_bundle)
    with httpx.Client(verify=tls, proxy=proxy, trust_env=False, timeout=_ASK_SECONDS) as client:
        return client.head(way.endpoint.url)


def _clock(date: str) -> Finding:
    try:
        skew = datetime.now(UTC) - parsedate_to_datetime(date).astimezone(UTC)
    except ValueError:
        return Finding("clock", "the server tells no time")
    seconds = abs(skew).total_seconds()
    if abs(skew) > _TOLERATED_SKEW:
        ahead = "ahead of" if skew > timedelta(0) else "behind"
        return Finding("clock", f"{seconds:.0f} s {ahead} the server's", "set it: timedatectl set-ntp true")
    return Finding("clock", f"within {max(seconds, 1):.0f} s of the server's")


async def _read(bucket: Bucket, key: str) -> Finding:
    try:
        await bucket.head(key)
    except NoSuchKey:
        pass  # the bucket is empty, and we were told so instead of being refused
    except SpacesError as error:
        return Finding("read", str(error), "give the key the right to read, or use another")
    return Finding("read", "the key may read objects")


async def _write(bucket: Bucket) -> Finding:
    """Begin an upload and abort it at once: that takes the right to write, and leaves nothing."""
    key = f".spacesfs-{uuid.uuid4()}"
    try:
        await bucket.abort_upload(key, await bucket.create_upload(key))
    except AccessDenied:
        return Finding("write", "the key may not write", "mount with --read-only, or give the key the right")
    except SpacesError as error:
        return Finding("write", str(error), "try again; if it stays, ask support with the request's id")
    return Finding("write", "the key may write objects")


async def _delete(bucket: Bucket) -> Finding:
    """Delete what is not there; in a bucket with versions that would leave a mark, so there it is not tried."""
    try:
        if await bucket.versioning() != "never":
            return Finding("delete", "not tried: the bucket keeps versions, and a mark would stay")
        await bucket.delete(f".spacesfs-{uuid.uuid4()}")
    except AccessDenied:
        return Finding("delete", "the key may not delete", "mount with --read-only, or give the key the right")
    except SpacesError as error:
        return Finding("delete", str(error), "try again; if it stays, ask support with the request's id")
    return Finding("delete", "the key may delete objects")


def _fuse_conf(options: Options) -> Finding:
    try:
        lines = _FUSE_CONF.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    if any(line.strip() == "user_allow_other" for line in lines):
        return Finding("fuse.conf", "mounts may be opened to other users")
    if options.allow_other and os.geteuid() != 0:
        return Finding("fuse.conf", "allow-other is asked for and not allowed", f"add user_allow_other to {_FUSE_CONF}")
    return Finding("fuse.conf", "mounts are for their owner alone, unless root makes them")


def _updatedb() -> Finding:
    """Check that locate's nightly walk over all files leaves Spaces alone: it would list them, for money."""
    try:
        pruned = _PRUNED.search(_UPDATEDB_CONF.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return Finding("updatedb", "not installed")
    kinds = pruned[1].split() if pruned is not None else []
    if FILE_SYSTEM_TYPE in kinds:
        return Finding("updatedb", "leaves Spaces alone")
    fix = f"add {FILE_SYSTEM_TYPE} to PRUNEFS in {_UPDATEDB_CONF}"
    return Finding("updatedb", "would walk through every mounted Space each night", fix)


def _folder(name: str, folder: Path) -> Finding:
    """Check that files can be made in a folder, or in the nearest one above it that exists."""
    there = folder
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding(name, f"{folder}: {error.strerror}", f"make it yours, or give another --{name}-dir")
    is_memory = _file_system(there) in {"tmpfs", "ramfs"}
    if name == "state" and is_memory:
        return Finding(name, f"{folder} is in memory and gone after a restart", "give a --state-dir on a disk")
    return Finding(name, f"{folder} can be used")


def _file_system(path: Path) -> str:
    """Return the type of the file system that a path is on."""
    best, kind = Path("/"), ""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
        _, mountpoint, found, *_ = line.split(" ")
        if path.resolve().is_relative_to(mountpoint) and len(mountpoint) >= len(str(best)):
            best, kind = Path(mountpoint), found
    return kind


def _disk(options: Options) -> Finding:
    there = options.cache_dir
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < min(options.cache_size, _LEAST_FREE_BYTES):
        text = f"{human_bytes(free)} free for {options.cache_dir}"
        return Finding("disk", text, "make room, or give a --cache-dir on another disk")
    return Finding("disk", f"{human_bytes(free)} free for up to {human_bytes(options.cache_size)} of cache")
