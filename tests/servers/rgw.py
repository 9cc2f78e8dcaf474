"""A real one-node Ceph cluster with a RADOS gateway: the engine behind DigitalOcean Spaces, up in about 15 seconds.

One monitor, one manager, one OSD that keeps objects in memory, one gateway. By hand: ``python -m tests.servers.rgw``.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from tests.servers.process import SEARCH_PATH, Daemon, ServerError, free_port, require_programs

PACKAGES = {
    "ceph": "ceph-common",
    "ceph-authtool": "ceph-common",
    "ceph-mgr": "ceph-mgr",
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "monmaptool": "ceph-base",
    "rados": "ceph-common",
    "radosgw": "radosgw",
    "radosgw-admin": "radosgw",
}
LOGS_FOLDER = Path(__file__).parents[2] / ".test-logs"
COMMAND_SECONDS = 60  # a command of a healthy cluster takes 1 s
READY_SECONDS = 120  # the gateway takes 8 s on two idle cores
BALLAST_BYTES = 100 << 20
BALLAST_OBJECTS = 3
"""The memory store counts inexactly what it holds. Below nothing that is 16 EiB, the cluster is full, and all writes
wait for ever; so there is always something."""

# size 1 and no autoscaler: one OSD. Data dies with the cluster, so pages are plain strings in memory.
# tcp_nodelay: without it each reply through a proxy waits 40 ms for the delayed ACK.
# watch timeout: after a kill the next gateway's notices wait for the dead one that long; 30 s by default.
# mon data avail crit: the monitor ends itself when less than 5 % of the disk is free, by default.
# gc: deleted data must leave the memory within seconds, not after the default two hours.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor_port}]
keyring = {home}/keyring
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
run dir = {home}
admin socket = {home}/$name.asok
log file = {logs}/$name.log
pid file =
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon warn on pool no redundancy = false
mon data avail crit = 1
mon allow pool size one = true
auth allow insecure global id reclaim = false
[mon]
mon data = {home}/mon
[mgr]
mgr data = {home}/mgr
[osd]
osd data = {home}/osd
osd objectstore = memstore
memstore device bytes = 8589934592
memstore page set = false
osd client watch timeout = 3
[client.rgw]
rgw data = {home}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway_port} tcp_nodelay=1
rgw thread pool size = 64
rgw dns name = localhost
rgw crypt require ssl = false
rgw gc obj min wait = 2
rgw gc processor period = 5
rgw gc processor max time = 60
"""

# The gateway works only with cephx keys of its own, even on a cluster of one user.
CAPABILITIES: dict[str, tuple[str, ...]] = {
    "mon.": ("mon", "allow *"),
    "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
    "osd.0": ("mon", "allow profile osd", "mgr", "allow profile osd", "osd", "allow *"),
    "mgr.x": ("mon", "allow profile mgr", "osd", "allow *"),
    "client.rgw": ("mon", "allow rw", "osd", "allow rwx", "mgr", "allow rw"),
}


class RadosGateway:
    """A cluster with a gateway on a free port of 127.0.0.1, for the time of a ``with`` block.

    Speaks path style, and virtual hosts below ``localhost``. Owns a temporary folder and its daemons; both are gone
    after the block. Logs lie in ``.test-logs/`` meanwhile, and stay there when the block fails or ``keep_logs`` is set.

    Attributes:
        endpoint: ``http://127.0.0.1:PORT``.
        access_key, secret_key: The user that the tests work as.
        other_access_key, other_secret_key: A stranger, whom the first user's buckets refuse with 403.
        keep_logs: Leave the log files when the block ends.
    """

    access_key = "AKTEST"
    secret_key = "SKTEST"
    other_access_key = "AKOTHER"
    other_secret_key = "SKOTHER"

    def __init__(self) -> None:
        self._port = free_port()
        self._stack = ExitStack()
        self._gateway: Daemon | None = None
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self.keep_logs = False

    def __enter__(self) -> Self:
        """Start everything.

        Raises:
            ServerError: A program is missing, or a daemon did not start; nothing is left running.
        """
        require_programs(PACKAGES)
        self._home = Path(tempfile.mkdtemp(prefix="spacesfs-rgw-"))  # short: holds unix sockets, 107 bytes at most
        self._logs = LOGS_FOLDER / self._home.name
        self._logs.mkdir(parents=True)
        self._stack.callback(shutil.rmtree, self._home, ignore_errors=True)
        try:
            self._start_cluster()
            self.start_gateway()
            self._load_ballast()
            self._create_user("test", self.access_key, self.secret_key)
            self._create_user("other", self.other_access_key, self.other_secret_key)
        except BaseException:  # Ctrl-C, too, must leave nothing running
            self.keep_logs = True
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.keep_logs |= kind is not None
        self._close()

    def start_gateway(self) -> None:
        """Start the gateway on its port, and return when it answers; the cluster keeps its objects meanwhile."""
        if self._gateway and self._gateway.is_alive:
            raise ServerError("the gateway runs already")
        self._gateway = self._daemon("radosgw", "-f", "-n", "client.rgw")
        self._gateway.wait_until(self._answers, READY_SECONDS)

    def stop_gateway(self) -> None:
        """Kill the gateway at once: open connections break, new ones are refused."""
        self._running_gateway().kill()

    def freeze_gateway(self) -> None:
        """Let the gateway hang: connections are accepted and nothing is answered, until `thaw_gateway`."""
        self._running_gateway().freeze()

    def thaw_gateway(self) -> None:
        """Let a frozen gateway go on where it stopped."""
        self._running_gateway().thaw()

    def add_key(self, access_key: str, secret_key: str) -> None:
        """Give the user that the tests work as one more key."""
        keys = (f"--access-key={access_key}", f"--secret={secret_key}")
        self._run("radosgw-admin", "key", "create", "--uid=test", "--key-type=s3", *keys)

    def remove_key(self, access_key: str) -> None:
        """Make a key invalid; the gateway knows at once."""
        self._run("radosgw-admin", "key", "rm", "--uid=test", "--key-type=s3", f"--access-key={access_key}")

    def limit_bucket(self, name: str, size_bytes: int | None) -> None:
        """Set the quota of a bucket, or lift it."""
        scope = ("--quota-scope=bucket", f"--bucket={name}")
        if size_bytes is None:
            self._run("radosgw-admin", "quota", "disable", *scope)
        else:
            self._run("radosgw-admin", "quota", "set", *scope, f"--max-size={size_bytes}")
            self._run("radosgw-admin", "quota", "enable", *scope)

    def _running_gateway(self) -> Daemon:
        if not self._gateway:
            raise ServerError("the gateway was not started")
        return self._gateway

    def _start_cluster(self) -> None:
        fsid, osd_uuid, monitor_port = str(uuid.uuid4()), str(uuid.uuid4()), free_port()
        self._write_configuration(fsid, monitor_port)
        monitor_map, address = f"{self._home}/monmap", f"[v2:127.0.0.1:{monitor_port}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monitor_map)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitor_map)
        self._daemon("ceph-mon", "-f", "-i", "a")
        self._daemon("ceph-mgr", "-f", "-i", "x")
        self._run("ceph", "--connect-timeout", "30", "osd", "new", osd_uuid, "0")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_uuid)  # the uuid that the monitor was told
        self._daemon("ceph-osd", "-f", "-i", "0").wait_until(self._is_osd_up, READY_SECONDS)

    def _write_configuration(self, fsid: str, monitor_port: int) -> None:
        for folder in ("mon", "mgr", "osd", "rgw"):
            (self._home / folder).mkdir()
        text = CONFIGURATION.format(
            fsid=fsid, monitor_port=monitor_port, gateway_port=self._port, home=self._home, logs=self._logs
        )
        (self._home / "ceph.conf").write_text(text)
        (self._home / "keyring").touch(mode=0o600)
        for entity, capabilities in CAPABILITIES.items():
            pairs = zip(capabilities[::2], capabilities[1::2], strict=True)
            options = [word for daemon, allowed in pairs for word in ("--cap", daemon, allowed)]
            self._run("ceph-authtool", f"{self._home}/keyring", "--gen-key", "-n", entity, *options)

    def _create_user(self, uid: str, access_key: str, secret_key: str) -> None:
        keys = (f"--access-key={access_key}", f"--secret={secret_key}")
        self._run("radosgw-admin", "user", "create", f"--uid={uid}", f"--display-name={uid}", *keys)

    def _load_ballast(self) -> None:
        zeros = self._home / "ballast"
        with zeros.open("wb") as file:
            file.truncate(BALLAST_BYTES)
        for number in range(BALLAST_OBJECTS):
            self._run("rados", "--pool=.rgw.root", "--namespace=ballast", "put", str(number), str(zeros))
        zeros.unlink()

    def _is_osd_up(self) -> bool:
        return " 1 up" in self._run("ceph", "--connect-timeout", "10", "osd", "stat")

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            return False
        return True

    def _daemon(self, program: str, *arguments: str) -> Daemon:
        command = (program, *arguments, "-c", f"{self._home}/ceph.conf")
        return self._stack.enter_context(Daemon(command, self._logs / f"{program}.out"))

    def _run(self, program: str, *arguments: str) -> str:
        """Run one of Ceph's commands to its end and return what it printed."""
        path = shutil.which(program, path=SEARCH_PATH) or program
        command = (path, *arguments, "-c", f"{self._home}/ceph.conf")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise ServerError(f"{program} did not end within {COMMAND_SECONDS} s") from error
        if done.returncode:
            raise ServerError(f"{program} ended with status {done.returncode}:\n{done.stderr}")
        return done.stdout

    def _close(self) -> None:
        self._stack.close()  # kills, not terminates: a memory store that is asked to end writes all it holds to disk
        if not self.keep_logs:
            shutil.rmtree(self._logs, ignore_errors=True)


def main() -> None:
    """Serve until Ctrl-C."""
    with RadosGateway() as rgw:
        print(f"endpoint  {rgw.endpoint}")
        print(f"keys      {rgw.access_key} {rgw.secret_key}")
        print(f"stranger  {rgw.other_access_key} {rgw.other_secret_key}", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
