"""Whatever was acknowledged is there after a crash, whole; what was not is there whole or not at all."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from spacesfs.pending.changes import Change, DropContent, DropIntent, SaveFact, SaveIntent
from spacesfs.pending.intents import Present
from spacesfs.pending.journal import Journal
from tests.pending.journal_writer import content
from tests.pending.rows import IDENTITY, absent, file

ROOT = Path(__file__).parents[2]


@dataclass
class Told:
    """What a killed process said of one key."""

    acknowledged: int = 0
    possible: dict[int, int] = field(default_factory=dict)  # order of a change that began to its content's number


def read_told(output: str, told: dict[str, Told]) -> int:
    """Add lines to what was told; return how many were acknowledgements."""
    count = 0
    for line in output.splitlines():
        mark, key, order, number = line.split()
        one = told.setdefault(key, Told())
        one.possible[int(order)] = int(number)
        if mark == "<":
            one.acknowledged = max(one.acknowledged, int(order))
            count += 1
    return count


async def check(folder: Path, told: dict[str, Told]) -> None:
    journal = Journal.open(folder, IDENTITY)
    found = journal.recovered
    assert found.notices == []
    for key, one in told.items():
        if one.acknowledged == 0 and key not in found.intents:
            continue
        intent = found.intents[key]
        assert intent.order >= one.acknowledged, f"{key}: an acknowledged change is gone"
        number = one.possible[intent.order]
        assert (intent.want.content if isinstance(intent.want, Present) else 0) == number
        if number:
            assert await journal.inline(number) == content(number)
        one.acknowledged = intent.order  # what was found once stays
    used = {intent.want.content for intent in found.intents.values() if isinstance(intent.want, Present)}
    assert found.contents.keys() >= used - {None}
    await journal.aclose()


@pytest.mark.parametrize("seed", range(3))
async def test_kill_9(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    told: dict[str, Told] = {}
    total = 0
    for _ in range(4):
        command = [sys.executable, "-m", "tests.pending.journal_writer", str(tmp_path), str(chance.randrange(1 << 30))]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None
        output = await process.stdout.receive_some()
        with trio.move_on_after(chance.uniform(0.0, 0.7)):
            while True:
                output += await process.stdout.receive_some()
        process.send_signal(signal.SIGKILL)
        while piece := await process.stdout.receive_some():
            output += piece
        assert await process.wait() == -signal.SIGKILL
        total += read_told(output.decode(), told)
        await check(tmp_path, told)
    assert total > 20


KEYS = st.sampled_from("abc")
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), KEYS, st.binary(max_size=9000), st.booleans()),
    st.tuples(st.just("unlink"), KEYS, st.just(b""), st.booleans()),
    st.tuples(st.just("confirm"), KEYS, st.just(b""), st.booleans()),
    st.tuples(st.just("fact"), KEYS, st.binary(max_size=5), st.booleans()),
    st.tuples(st.just("crash"), st.just(""), st.just(b""), st.booleans()),
)


@dataclass
class Model:
    """What the journal should hold: after each change a state, and how many of them are acknowledged for sure."""

    states: list[dict[str, object]] = field(default_factory=lambda: [{}])
    acknowledged: int = 0

    def then(self, **changed: object) -> None:
        state = {**self.states[-1], **changed}
        self.states.append({name: value for name, value in state.items() if value is not None})


async def seen(folder: Path) -> dict[str, object]:
    """Return what a journal holds: bytes or None by key, and facts."""
    journal = Journal.open(folder, IDENTITY)
    found: dict[str, object] = {f"fact {name}": value for name, value in journal.recovered.facts.items()}
    for key, intent in journal.recovered.intents.items():
        number = intent.want.content if isinstance(intent.want, Present) else None
        found[key] = (intent.order, await journal.inline(number) if number is not None else "absent")
    assert journal.recovered.notices == []
    await journal.aclose()
    return found


def power_cut(folder: Path, durable_bytes: int, chance: random.Random) -> Path:
    """Return a copy of a folder as the power would leave it: of the log, what was not synced is there in part or not.

    No checkpoint is made meanwhile (the log is too short for one), so the log only grows, and its copy is one moment's.
    """
    copy = Path(tempfile.mkdtemp(dir=folder.parent))
    shutil.copy(folder / "journal.db", copy)
    log = (folder / "journal.db-wal").read_bytes()
    (copy / "journal.db-wal").write_bytes(log[: chance.randint(min(durable_bytes, len(log)), len(log))])
    return copy


async def play(folder: Path, operations: list[tuple[str, str, bytes, bool]], chance: random.Random) -> None:
    journal = Journal.open(folder, IDENTITY)
    await journal.commit()
    model = Model()
    durable_bytes = (folder / "journal.db-wal").stat().st_size
    contents: dict[str, int] = {}
    crashes: list[tuple[Path, int, int]] = []  # a copy, and the first and last state that it may hold
    for order, (kind, key, data, waits) in enumerate(operations):
        if kind == "crash":
            first = model.acknowledged
            copy = power_cut(folder, durable_bytes, chance)
            crashes.append((copy, first, len(model.states) - 1))
            continue
        changes: tuple[Change, ...]
        old = contents.pop(key, None) if kind != "fact" else None
        if kind == "write":
            contents[key] = journal.next_content_number()
            changes = file(key, contents[key], data, order=order)
            model.then(**{key: (order, data)})
        elif kind == "unlink":
            changes = (SaveIntent(absent(key, order=order)),)
            model.then(**{key: (order, "absent")})
        elif kind == "confirm":
            changes = (DropIntent(key),)
            model.then(**{key: None})
        else:
            changes = (SaveFact(key, data.hex()),)
            model.then(**{f"fact {key}": data.hex()})
        if old is not None:
            changes = (*changes, DropContent(old))
        if waits:
            await journal.commit(*changes)
            model.acknowledged = len(model.states) - 1
            durable_bytes = (folder / "journal.db-wal").stat().st_size
        else:
            journal.post(*changes)
    await journal.aclose()
    assert await seen(folder) == model.states[-1]
    for copy, first, last in crashes:
        assert await seen(copy) in model.states[first : last + 1]


@settings(max_examples=60, deadline=None)
@given(operations=st.lists(OPERATIONS, max_size=40), seed=st.integers(0, 1 << 30))
def test_a_power_cut_at_any_moment_leaves_a_state_not_older_than_the_acknowledged(
    operations: list[tuple[str, str, bytes, bool]], seed: int
) -> None:
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "journal"
        folder.mkdir()
        trio.run(play, folder, operations, random.Random(seed))
