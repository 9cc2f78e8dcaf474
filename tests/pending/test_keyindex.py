"""The index of keys against a dictionary of sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spacesfs.pending.keyindex import KeyIndex

STEPS = st.lists(st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(["a", "b", "c"]), st.sampled_from([1, -1, 0])))

Model = dict[str, set[str]]


def build(steps: list[tuple[str, str, int]]) -> tuple[KeyIndex[str], Model]:
    index: KeyIndex[str] = KeyIndex()
    model = Model()
    for at, key, step in steps:
        if step:
            index.note(at, key, step)
            (model.setdefault(at, set()).add if step > 0 else model.setdefault(at, set()).discard)(key)
        else:
            assert index.pop(at) == model.pop(at, set())
        assert index.get(at) == model.get(at, set())
    return index, {at: keys for at, keys in model.items() if keys}


@given(steps=STEPS, more=STEPS)
def test_as_the_model(steps: list[tuple[str, str, int]], more: list[tuple[str, str, int]]) -> None:
    index, model = build(steps)
    assert index.as_dict() == model
    other, others = build(more)
    index.merge(other)
    assert index.as_dict() == {at: model.get(at, set()) | others.get(at, set()) for at in model.keys() | others.keys()}
