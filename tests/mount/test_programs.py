"""Programs of ordinary work, unchanged, on a real tree: cp, rsync, git, tar, venv, SQLite."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.mount.mounting import Mount, python, run, shell

TREE_FILES = 2_000
SMALL_TREE_FILES = 400
LARGEST_BYTES = 200_000
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the first files of the installed packages, with symbolic links and an empty directory."""
    return _copy_of_packages(tmp_path_factory.mktemp("large") / "tree", TREE_FILES)


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with fewer files."""
    return _copy_of_packages(tmp_path_factory.mktemp("small") / "tree", SMALL_TREE_FILES)


def _copy_of_packages(tree: Path, wanted: int) -> Path:
    packages = Path(sysconfig.get_path("purelib"))
    count = 0
    for folder, folders, files in os.walk(packages):
        folders[:] = sorted(set(folders) - {"__pycache__"})
        target = tree / Path(folder).relative_to(packages)
        target.mkdir()
        small = [name for name in sorted(files) if (Path(folder) / name).stat().st_size <= LARGEST_BYTES]
        for name in small[: wanted - count]:
            shutil.copy2(Path(folder) / name, target / name)
            count += 1
        if count == wanted:
            break
    (tree / "empty").mkdir()
    (tree / "link").symlink_to("empty")
    (tree / "dangling").symlink_to("nowhere/at all")
    assert count == wanted, f"only {count} files in {packages}"
    return tree


@pytest.mark.deadline(280)
def test_copy_and_compare(folder: Path, mount: Mount, source_tree: Path) -> None:
    run("cp", "-r", source_tree, folder / "copy", seconds=200)
    run("diff", "-r", "--no-dereference", source_tree, folder / "copy")
    mount.remount()
    run("diff", "-r", "--no-dereference", source_tree, folder / "copy", seconds=120)


@pytest.mark.deadline(280)
def test_rsync_transfers_nothing_twice(folder: Path, mount: Mount, small_tree: Path) -> None:
    """``rsync -ai`` names every file, directory or link that differs in content, mode, owner or time."""
    run("rsync", "-a", f"{small_tree}/", folder / "synced", seconds=200)
    assert run("rsync", "-ai", f"{small_tree}/", folder / "synced") == ""
    mount.remount()
    assert run("rsync", "-ai", f"{small_tree}/", folder / "synced") == ""
    assert run("rsync", "-ani", "--checksum", "--delete", f"{small_tree}/", folder / "synced", seconds=120) == ""

    victim = next(path for path in sorted((folder / "synced").rglob("*.py")) if path.stat().st_size)
    with victim.open("ab") as handle:
        handle.write(b"# changed\n")
    changed = run("rsync", "-ai", f"{small_tree}/", folder / "synced")
    assert changed.splitlines() == [f">f.st...... {victim.relative_to(folder / 'synced')}"]


def test_git(folder: Path, mount: Mount) -> None:
    """Clone this repository, commit, and let git check every object, also with cold caches."""
    clone = folder / "clone"
    # --no-local: through git's own protocol, so that a shallow clone can be cloned, and nothing is hard-linked.
    run("git", "-c", "safe.directory=*", "clone", "--no-local", "--quiet", REPOSITORY, clone)
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    (clone / "new.txt").write_text("a new file\n")
    (clone / "pyproject.toml").unlink()
    run("git", "add", "--all", cwd=clone)
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    run("git", *identity, "commit", "--quiet", "--message", "A change made in the mount", cwd=clone)
    run("git", "fsck", "--strict", cwd=clone)
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    head = run("git", "rev-parse", "HEAD", cwd=clone)

    mount.remount()
    run("git", "fsck", "--strict", "--full", cwd=clone)
    assert run("git", "rev-parse", "HEAD", cwd=clone) == head
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    assert run("git", "show", "HEAD:new.txt", cwd=clone) == "a new file\n"
    run("git", "gc", "--quiet", cwd=clone)
    run("git", "fsck", "--strict", "--full", cwd=clone)


def test_tar_and_checksums(folder: Path, mount: Mount, small_tree: Path, tmp_path: Path) -> None:
    shell(f"find . -type f -print0 | xargs -0 sha256sum > {tmp_path}/sums; tar cf {tmp_path}/t.tar .", small_tree)
    target = folder / "unpacked"
    target.mkdir()
    run("tar", "xf", tmp_path / "t.tar", cwd=target)
    run("sha256sum", "--check", "--quiet", tmp_path / "sums", cwd=target)
    run("tar", "--compare", "--file", tmp_path / "t.tar", cwd=target)
    mount.remount()
    run("sha256sum", "--check", "--quiet", tmp_path / "sums", cwd=target)
    run("tar", "--compare", "--file", tmp_path / "t.tar", cwd=target)
    shell("tar cf repacked.tar unpacked && tar tf repacked.tar > names && test -s names", folder)


def test_virtual_environment(folder: Path, mount: Mount) -> None:
    run("python3", "-m", "venv", "--without-pip", folder / "venv")
    interpreter = folder / "venv" / "bin" / "python"
    packages = run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    assert Path(packages).is_relative_to(folder)
    (Path(packages) / "hello.py").write_text("WORD = 'hello from the mount'\n")
    expected = f"hello from the mount {folder}/venv\n"
    assert run(interpreter, "-c", "import hello, sys; print(hello.WORD, sys.prefix)") == expected
    mount.remount()
    assert run(interpreter, "-c", "import hello, sys; print(hello.WORD, sys.prefix)") == expected


def test_sqlite(folder: Path, mount: Mount) -> None:
    """Default journal mode: locks, a rollback journal made and removed, fsync in between."""
    database = folder / "data.db"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        with connection:
            connection.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY, square INTEGER, filler BLOB)")
        for start in range(0, 500, 100):
            with connection:
                rows = [(n, n * n, bytes([n % 256]) * 1000) for n in range(start, start + 100)]
                connection.executemany("INSERT INTO numbers VALUES (?, ?, ?)", rows)
        with connection:
            connection.execute("DELETE FROM numbers WHERE n % 7 = 0")
        connection.execute("UPDATE numbers SET square = 0")
        connection.rollback()
    expected = [(n, n * n) for n in range(500) if n % 7]
    assert _checked_rows(database) == expected
    assert os.listdir(folder) == ["data.db"]
    mount.remount()
    assert _checked_rows(database) == expected


def _checked_rows(database: Path) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("SELECT n, square FROM numbers ORDER BY n").fetchall()


INCREMENT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for _ in range(10):
    connection.execute("BEGIN IMMEDIATE")
    (value,) = connection.execute("SELECT n FROM counter").fetchone()
    connection.execute("UPDATE counter SET n = ?", (value + 1,))
    connection.execute("COMMIT")
"""


def test_sqlite_writers_in_two_processes(folder: Path) -> None:
    """Each takes the other's locks seriously: no update is lost."""
    database = folder / "count.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE counter (n INTEGER)")
        connection.execute("INSERT INTO counter VALUES (0)")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: python(INCREMENT, database), range(2)))
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT n FROM counter").fetchone() == (20,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
