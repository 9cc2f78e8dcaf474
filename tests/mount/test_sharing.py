"""Several processes in one mount: parallel readers and writers, locks, and tools that walk it all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mount.mounting import Mount, attempt, python, run, shell

HOLD_FLOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_writers_of_different_files(folder: Path, mount: Mount) -> None:
    shell(
        """
        write() { for i in $(seq 40); do head -c 300000 /dev/zero | tr '\\0' "$1"; done > "$1"; }
        write a & write b & wait
        """,
        folder,
    )
    mount.remount()
    for name in ("a", "b"):
        content = (folder / name).read_bytes()
        assert len(content) == 40 * 300_000
        assert set(content) == {ord(name)}


def test_eight_writers_of_small_files(folder: Path, mount: Mount) -> None:
    def write(number: int) -> None:
        (folder / f"f{number}").write_bytes(b"%d" % number * 500)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    mount.remount()
    found = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
    assert found == {f"f{number}": b"%d" % number * 500 for number in range(200)}


def test_eight_readers(folder: Path, mount: Mount) -> None:
    """Of one large file and of many small ones, from cold."""
    large = os.urandom(30_000_000)
    (folder / "large").write_bytes(large)
    digests = {"large": hashlib.sha256(large).hexdigest()}
    for number in range(40):
        content = os.urandom(10_000 + number)
        (folder / f"small{number}").write_bytes(content)
        digests[f"small{number}"] = hashlib.sha256(content).hexdigest()
    mount.remount()
    out = shell("(printf '%s\\n' large{,,,,,,,}; ls | grep small) | xargs -P 8 -n 1 sha256sum", folder)
    lines = sorted(out.splitlines())
    expected = [f"{digests['large']}  large"] * 8 + [f"{digests[name]}  {name}" for name in digests if name != "large"]
    assert lines == sorted(expected)


def test_tools_that_walk_a_tree(folder: Path, mount: Mount) -> None:
    for number in range(60):
        (folder / f"d{number % 6}" / "sub").mkdir(parents=True, exist_ok=True)
        (folder / f"d{number % 6}" / "sub" / f"f{number}").write_text(
            "needle\n" if number % 20 == 0 else "hay\n" * 1000
        )
    mount.remount()
    assert len(run("find", ".", "-type", "f", cwd=folder).splitlines()) == 60
    assert len(run("find", ".", "-type", "d", cwd=folder).splitlines()) == 13
    found = run("grep", "--recursive", "--files-with-matches", "needle", ".", cwd=folder).splitlines()
    assert sorted(found) == ["./d0/sub/f0", "./d2/sub/f20", "./d4/sub/f40"]
    apparent = int(
        run("du", "--summarize", "--bytes", "--total", *sorted(folder.rglob("f*"))).splitlines()[-1].split()[0]
    )
    assert apparent == 57 * 4000 + 3 * 7
    assert int(run("du", "--summarize", "--block-size=1", folder).split()[0]) >= 57 * 4000
    assert run("ls", "--recursive", "-l", folder).count("-rw") == 60


def test_flock_between_processes(folder: Path) -> None:
    file = folder / "lock"
    file.touch()
    out = shell(
        """
        exec 9> lock; flock --exclusive 9
        if flock --nonblock --exclusive lock true; then echo "got a held lock"; fi
        (flock --exclusive 8; echo second >> order) 8> lock &
        sleep 0.5; echo first >> order
        flock --unlock 9
        wait
        flock --nonblock --exclusive lock cat order
        """,
        folder,
    )
    assert out == "first\nsecond\n"


def test_shared_flock(folder: Path) -> None:
    out = shell(
        """
        exec 9> lock; flock --shared 9
        flock --nonblock --shared lock echo shared
        flock --nonblock --exclusive lock echo exclusive || echo refused
        """,
        folder,
    )
    assert out == "shared\nrefused\n"


LOCK_RANGE = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, int(sys.argv[3]), int(sys.argv[2]))
        print("locked")
    except BlockingIOError:
        print("refused")
"""


def test_range_locks_between_processes(folder: Path) -> None:
    file = folder / "records"
    file.write_bytes(bytes(100))
    with file.open("r+b") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX, 10, 20)
        assert python(LOCK_RANGE, file, "25", "1") == "refused\n"
        assert python(LOCK_RANGE, file, "30", "10") == "locked\n"
        fcntl.lockf(handle, fcntl.LOCK_UN, 10, 20)
        assert python(LOCK_RANGE, file, "25", "1") == "locked\n"


def test_lock_ends_with_its_holder(folder: Path) -> None:
    (folder / "lock").touch()
    command = [sys.executable, "-c", HOLD_FLOCK, str(folder / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert attempt("flock", "--nonblock", folder / "lock", "true").returncode == 1
        holder.kill()
    run("flock", "--timeout", "10", folder / "lock", "true")


def test_many_open_handles(folder: Path) -> None:
    count = 300
    files = [(folder / f"f{number}").open("w+b", buffering=0) for number in range(count)]
    for number, file in enumerate(files):
        file.write(b"%d" % number)
    for number, file in enumerate(files):
        assert os.pread(file.fileno(), 10, 0) == b"%d" % number
        file.close()
    assert (folder / f"f{count - 1}").read_bytes() == b"%d" % (count - 1)
