"""A process that journals and says what was acknowledged, until it is killed: `python journal_writer.py FOLDER SEED`.

Each line of its output is an operation that began (`> key order number`) or was acknowledged (`< key order number`).
Number 0 means that the key's file goes. Several tasks work at once, each upon keys of its own; posts are mixed in.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import trio

from spacesfs.pending.changes import Change, DropContent, SaveIntent
from spacesfs.pending.journal import Journal
from tests.pending.rows import IDENTITY, absent, file, present

WORKERS = 4
KEYS = 5


def content(number: int) -> bytes:
    """Return the bytes of a content: its number tells them, and how many there are."""
    return random.Random(number).randbytes(number * 7919 % 20_000)


def say(line: str) -> None:
    """Write a line at once, whole."""
    os.write(1, f"{line}\n".encode())


async def work(journal: Journal, worker: int, chance: random.Random) -> None:
    """Change keys for ever; what came of the last change of each is in the order of the lines."""
    numbers = dict.fromkeys((f"{worker}/{key}" for key in range(KEYS)), 0)
    order = max((intent.order for intent in journal.recovered.intents.values()), default=0)
    while True:
        key = chance.choice(list(numbers))
        old, order = numbers[key], order + 1
        number = journal.next_content_number() if chance.random() < 0.8 else 0
        say(f"> {key} {order} {number}")
        changes: tuple[Change, ...] = (SaveIntent(absent(key, order=order)), DropContent(old))
        if number:
            changes = (*file(key, number, content(number), order=order), DropContent(old))
        numbers[key] = number
        if chance.random() < 0.2:
            journal.post(*changes)
            continue
        await journal.commit(*changes)
        say(f"< {key} {order} {number}")
        if chance.random() < 0.1:
            journal.post(SaveIntent(present(f"{worker}/chmod", order=order)))


async def main(folder: Path, seed: int) -> None:
    """Work until killed."""
    journal = Journal.open(folder, IDENTITY)
    async with trio.open_nursery() as nursery:
        for worker in range(WORKERS):
            nursery.start_soon(work, journal, worker, random.Random(f"{seed} {worker}"))


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
