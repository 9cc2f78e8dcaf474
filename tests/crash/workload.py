"""A program that works in one folder of a mount until the mount is gone: ``python -m tests.crash.workload``.

Arguments: the mount's root, the folder's name, the log, a seed. What is in the folder already is used, too. After an
error that is not the end of the mount the folder is left alone, as it is, and the program goes on in a new one.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.crash.calls import (
    Begun,
    Call,
    ChangeMode,
    Cut,
    Ended,
    Link,
    Log,
    MakeDirectory,
    Pause,
    Put,
    Reached,
    Remove,
    RemoveDirectory,
    Rename,
    SetTime,
    Step,
    Store,
    Sync,
    Write,
    data,
)

MIB = 1 << 20
GONE = {errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV}
"""What a dead mount answers."""
MOST_FILES = 40
MOST_LARGE = 2
_LARGE_BYTES = 4 * MIB


class Names:
    """What a folder holds, as far as the choice of the next call needs it.

    Attributes:
        sizes: By path: of a file its bytes, -1 for a directory, -2 for a link.
    """

    def __init__(self, root: Path) -> None:
        self.sizes: dict[str, int] = {}
        for path in sorted(root.rglob("*")):
            status = path.lstat()
            size = status.st_size if stat.S_ISREG(status.st_mode) else -2
            self.sizes[str(path.relative_to(root))] = -1 if stat.S_ISDIR(status.st_mode) else size

    def files(self, largest: int = 1 << 40) -> list[str]:
        return [path for path, size in self.sizes.items() if 0 <= size <= largest]

    def directories(self) -> list[str]:
        return [path for path, size in self.sizes.items() if size == -1]

    def below(self, path: str) -> list[str]:
        return [other for other in self.sizes if other.startswith(f"{path}/")]

    def apply(self, call: Call) -> None:
        """Note that a call returned."""
        match call:
            case Write(path):
                self.sizes[path] = _size_after(0 if call.empties else self.sizes.get(path, 0), call.steps)
            case Rename(path, new_path):
                moved = {new_path + under.removeprefix(path): under for under in (path, *self.below(path))}
                sizes = {new: self.sizes.pop(old) for new, old in moved.items()}
                self.sizes |= sizes
            case Remove(path) | RemoveDirectory(path):
                del self.sizes[path]
            case MakeDirectory(path):
                self.sizes[path] = -1
            case Link(path):
                self.sizes[path] = -2


def _size_after(size: int, steps: list[Step]) -> int:
    for step in steps:
        match step:
            case Put(offset, _, length) | Store(offset, _, length):
                size = max(size, offset + length)
            case Cut(length):
                size = length
    return size


class Chooser:
    """Chooses calls by a seed. Yields several where a program would make them in a row."""

    def __init__(self, chance: random.Random, names: Names) -> None:
        self.chance = chance
        self.names = names

    def next(self) -> Iterator[Call]:
        """Yield what is done next."""
        kinds: list[tuple[int, Callable[[], Iterator[Call]]]] = [
            (22, self.create),
            (10, self.overwrite),
            (8, self.append),
            (10, self.patch),
            (4, self.cut),
            (6, self.map),
            (5, self.redirect),
            (10, self.save_atomically),
            (10, self.rename),
            (4, self.swap),
            (8, self.remove),
            (6, self.make_directory),
            (3, self.remove_directory),
            (4, self.rename_directory),
            (3, self.link),
            (6, self.change_mode),
            (6, self.set_time),
        ]
        weights = [weight for weight, _ in kinds]
        yield from self.chance.choices(kinds, weights)[0][1]()

    # --- names and contents

    def a_directory(self) -> str:
        return self.chance.choice(["", "", *self.names.directories()])

    def a_path(self, letter: str = "f") -> str:
        directory = self.a_directory()
        name = f"{letter}{self.chance.randrange(8)}"
        return f"{directory}/{name}" if directory else name

    def a_file(self, largest: int = 1 << 40) -> str | None:
        files = self.names.files(largest)
        return self.chance.choice(files) if files else None

    def a_size(self) -> int:
        sizes = [0, 1, 100, 4096, 4097, 70_000, self.chance.randrange(300_000), self.chance.randrange(6 * MIB)]
        return self.chance.choices(sizes, [2, 2, 6, 3, 3, 3, 3, 1])[0]

    def put(self, offset: int, size: int) -> Put:
        return Put(offset, self.chance.randrange(1 << 32), size)

    def pieces(self, offset: int, size: int) -> Iterator[Step]:
        """Cut an extent into writes, with an fsync between some of them."""
        while size > 0:
            length = min(size, max(1, self.chance.randrange(size + 1), size // 6))
            yield self.put(offset, length)
            offset, size = offset + length, size - length
            if self.chance.random() < 0.15:
                yield Sync()

    # --- calls

    def create(self) -> Iterator[Call]:
        path = self.a_path()
        files = self.names.files()
        if path in self.names.sizes or len(files) >= MOST_FILES:
            yield from self.remove()
            return
        large = len(files) - len(self.names.files(_LARGE_BYTES))
        size = self.a_size()
        if large < MOST_LARGE and self.chance.random() < 0.06:
            size = self.chance.randrange(17 * MIB, 40 * MIB)
        yield Write(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640, list(self.pieces(0, size)))

    def overwrite(self) -> Iterator[Call]:
        path = self.a_file()
        if path is not None:
            yield Write(path, os.O_RDWR | os.O_TRUNC, 0, list(self.pieces(0, self.a_size())))

    def append(self) -> Iterator[Call]:
        path = self.a_file()
        if path is not None:
            size = self.chance.choice([1, 50, 5000, 100_000])
            yield Write(path, os.O_WRONLY | os.O_APPEND, 0, list(self.pieces(self.names.sizes[path], size)))

    def patch(self) -> Iterator[Call]:
        path = self.a_file()
        if path is None:
            return
        size = self.names.sizes[path]
        steps: list[Step] = []
        for _ in range(self.chance.randint(1, 3)):
            steps += self.pieces(self.chance.randint(0, size + 1000), self.chance.choice([1, 10, 4096, 30_000]))
        yield Write(path, os.O_RDWR, 0, steps)

    def cut(self) -> Iterator[Call]:
        path = self.a_file()
        if path is not None:
            sizes = [0, self.names.sizes[path] // 2, self.names.sizes[path] + 5000]
            yield Write(path, os.O_RDWR, 0, [Cut(self.chance.choice(sizes))])

    def map(self) -> Iterator[Call]:
        path = self.a_file(2 * MIB)
        if path is None or not self.names.sizes[path]:
            return
        size = self.names.sizes[path]
        offset = self.chance.randrange(size)
        length = min(size - offset, self.chance.choice([1, 100, 9000]))
        yield Write(path, os.O_RDWR, 0, [Store(offset, self.chance.randrange(1 << 32), length), Pause(0.01)])

    def redirect(self) -> Iterator[Call]:
        """A shell: { a; sleep; b; } > file, or >> file."""
        is_append = self.chance.random() < 0.4
        path = self.a_file(_LARGE_BYTES) if is_append else self.a_path()
        if path is None or self.names.sizes.get(path, 0) < 0:
            return
        offset = self.names.sizes.get(path, 0) if is_append else 0
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if is_append else os.O_TRUNC)
        first, second = self.put(offset, 30), self.put(offset + 30, self.chance.randrange(1, 3000))
        steps: list[Step] = [first, Pause(self.chance.uniform(0.02, 0.3)), second]
        yield Write(path, flags, 0o666, steps, is_shell=True)

    def save_atomically(self) -> Iterator[Call]:
        """As editors do: a temporary file, fsync, mode and time, rename."""
        path = self.a_path()
        if self.names.sizes.get(path, 0) < 0:
            return
        temporary = f"{path}.tmp"
        steps = [*self.pieces(0, self.a_size()), Sync()]
        yield Write(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600, steps)
        if self.chance.random() < 0.5:
            yield ChangeMode(temporary, 0o644)
            yield SetTime(temporary, self.a_time())
        yield Rename(temporary, path, by_program=False)

    def rename(self) -> Iterator[Call]:
        path, new_path = self.a_file(), self.a_path()
        if path is not None and path != new_path and self.names.sizes.get(new_path, 0) != -1:
            yield Rename(path, new_path, by_program=self.chance.random() < 0.2)
            if self.chance.random() < 0.4 and (another := self.a_path("g")) not in self.names.sizes:
                yield Rename(new_path, another, by_program=False)

    def swap(self) -> Iterator[Call]:
        first, second = self.a_file(), self.a_file()
        if first is not None and second is not None and first != second and "swap" not in self.names.sizes:
            yield Rename(first, "swap", by_program=False)
            yield Rename(second, first, by_program=False)
            yield Rename("swap", second, by_program=False)

    def remove(self) -> Iterator[Call]:
        paths = [path for path, size in self.names.sizes.items() if size != -1]
        if paths:
            yield Remove(self.chance.choice(paths))

    def make_directory(self) -> Iterator[Call]:
        path = self.a_path("d")
        if path not in self.names.sizes and path.count("/") < 3:
            yield MakeDirectory(path, 0o750)

    def remove_directory(self) -> Iterator[Call]:
        empty = [path for path in self.names.directories() if not self.names.below(path)]
        if empty:
            yield RemoveDirectory(self.chance.choice(empty))

    def rename_directory(self) -> Iterator[Call]:
        directories = self.names.directories()
        new_path = self.a_path("d")
        if directories and new_path not in self.names.sizes:
            path = self.chance.choice(directories)
            if not f"{new_path}/".startswith(f"{path}/"):
                yield Rename(path, new_path, by_program=False)

    def link(self) -> Iterator[Call]:
        path = self.a_path("l")
        if path not in self.names.sizes:
            yield Link(path, f"f{self.chance.randrange(8)}")

    def change_mode(self) -> Iterator[Call]:
        path = self.chance.choice(["", *self.names.files(), *self.names.directories()])
        yield ChangeMode(path, self.chance.choice([0o700, 0o755, 0o711]))

    def set_time(self) -> Iterator[Call]:
        path = self.a_file()
        if path is not None:
            yield SetTime(path, self.a_time())

    def a_time(self) -> int:
        return self.chance.randrange(1 << 30) * 10**9 + self.chance.randrange(10**9)


class Program:
    """Makes the calls in a folder, and logs them."""

    def __init__(self, root: Path, log: Log, seed: int) -> None:
        self._root = root
        self._log = log
        self._seed = seed
        self._number = 0

    def work(self, folder: str) -> None:
        """Work until the mount is gone."""
        generation = 0
        while True:
            chance = random.Random(f"{self._seed} {generation}")
            try:
                self._work_in(folder, chance)
            except OSError as error:
                if self._is_gone(error):
                    return
            time.sleep(0.1)
            generation += 1
            folder = f"{folder.partition('-')[0]}-{self._seed}-{generation}"

    def _is_gone(self, error: OSError) -> bool:
        if error.errno in GONE:
            return True
        try:
            os.statvfs(self._root)
        except OSError as further:
            return further.errno in GONE
        return not os.path.ismount(self._root)

    def _work_in(self, folder: str, chance: random.Random) -> None:
        if not self._root.is_mount():
            raise OSError(errno.ENOTCONN, "unmounted")
        if not (self._root / folder).is_dir():
            self._do(folder, MakeDirectory("", 0o755))
        names = Names(self._root / folder)
        chooser = Chooser(chance, names)
        while True:
            for call in chooser.next():
                self._do(folder, call)
                names.apply(call)
            time.sleep(chance.choice([0, 0, 0.002, 0.02]))

    def _do(self, folder: str, call: Call) -> None:
        self._number += 1
        self._log.write(Begun(self._number, folder, call))
        try:
            self._make(self._root / folder, call)
        except OSError as error:
            self._log.write(Ended(self._number, errno.errorcode.get(error.errno or 0, str(error))))
            raise
        self._log.write(Ended(self._number, ""))

    def _make(self, folder: Path, call: Call) -> None:
        match call:
            case Write(path) if call.is_shell:
                _redirect(folder / path, call)
            case Write(path):
                self._write(folder / path, call)
            case Rename(path, new_path, by_program):
                _rename(folder / path, folder / new_path, by_program)
            case Remove(path):
                (folder / path).unlink()
            case MakeDirectory(path, mode):
                (folder / path).mkdir(mode)
            case RemoveDirectory(path):
                (folder / path).rmdir()
            case Link(path, target):
                (folder / path).symlink_to(target)
            case ChangeMode(path, mode):
                (folder / path).chmod(mode)
            case SetTime(path, mtime_ns):
                os.utime(folder / path, ns=(mtime_ns, mtime_ns))

    def _write(self, path: Path, call: Write) -> None:
        file = os.open(path, call.flags, call.mode)
        try:
            for done, step in enumerate(call.steps, start=1):
                _step(file, call, step)
                if isinstance(step, Sync | Store):
                    self._log.write(Reached(self._number, done))
        except OSError:
            with _Ignored():
                os.close(file)
            raise
        os.close(file)


class _Ignored:
    """The first error counts."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, OSError)


def _step(file: int, call: Write, step: Step) -> None:
    match step:
        case Put(offset, seed, size):
            view = memoryview(data(seed, size))
            while view:
                is_append = call.flags & os.O_APPEND
                written = os.write(file, view) if is_append else os.pwrite(file, view, offset)
                view, offset = view[written:], offset + written
        case Store(offset, seed, size):
            with mmap.mmap(file, offset + size) as mapped:
                mapped[offset : offset + size] = data(seed, size)
                mapped.flush()
        case Cut(size):
            os.ftruncate(file, size)
        case Sync():
            os.fsync(file)
        case Pause(seconds):
            time.sleep(seconds)


def _rename(path: Path, new_path: Path, by_program: bool) -> None:
    if not by_program:
        path.rename(new_path)
        return
    done = subprocess.run(["mv", "-T", path, new_path], capture_output=True, check=False)
    if done.returncode:
        raise OSError(errno.EIO, f"mv: {done.stderr.decode(errors='replace').strip()}")


def _redirect(path: Path, call: Write) -> None:
    """Let a shell write, and sleep in between: the sleep's copy of the descriptor is closed before the end."""
    first, pause, second = call.steps
    assert isinstance(first, Put)
    assert isinstance(pause, Pause)
    assert isinstance(second, Put)
    sign = ">>" if call.flags & os.O_APPEND else ">"
    script = f'{{ printf "$1" && sleep {pause.seconds:.3f} && printf "$2"; }} {sign} "$0"'
    words = ["".join(f"\\x{byte:02x}" for byte in data(step.seed, step.size)) for step in (first, second)]
    done = subprocess.run(["bash", "-c", script, path, *words], capture_output=True, check=False)
    if done.returncode:
        raise OSError(errno.EIO, f"bash: {done.stderr.decode(errors='replace').strip()}")
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def main() -> None:
    """Work."""
    root, folder, log, seed = sys.argv[1:]
    os.umask(0)
    Program(Path(root), Log(Path(log)), int(seed)).work(folder)


if __name__ == "__main__":
    main()
