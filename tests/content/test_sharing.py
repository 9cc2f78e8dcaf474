"""Who reads at present counts for the share of memory; who left does not, from then on."""

from __future__ import annotations

from spacesfs.client.models import ObjectVersion
from spacesfs.content.sharing import Readers


class Handle:
    """Somebody who reads."""

    window_bytes = 0


def version(number: int) -> ObjectVersion:
    return ObjectVersion(f"k{number}", "0" * 32, 1)


async def test_each_who_reads_has_its_share() -> None:
    readers = Readers()
    for number in range(4):
        readers.note(Handle(), version(number))
    assert readers.share(400) == 100


async def test_of_files_read_one_after_another_the_last_has_all() -> None:
    readers = Readers()
    for number in range(20):
        handle = Handle()
        readers.note(handle, version(number))
        assert readers.share(400) == 400
        assert readers.leave(handle) == version(number)


async def test_a_version_is_given_up_with_its_last_reader() -> None:
    readers = Readers()
    first, second = Handle(), Handle()
    readers.note(first, version(1))
    readers.note(second, version(1))
    assert readers.leave(first) is None
    assert readers.leave(second) == version(1)
    assert readers.leave(second) is None
