"""The overlay against the plainest of models: a dictionary, and every question answered by looking through it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from spacesfs.client.models import ObjectVersion
from spacesfs.pending.intents import Absent, Intent, Present, Want
from spacesfs.pending.overlay import Overlay

KEYS = st.lists(st.sampled_from(["a", "b", "cc"]), min_size=1, max_size=4).flatmap(
    lambda segments: st.sampled_from(["/".join(segments), "/".join(segments) + "/"])
)
WANTS: st.SearchStrategy[Want] = st.one_of(
    st.just(Absent()),
    st.builds(
        Present,
        size=st.just(1),
        content=st.none() | st.integers(1, 3),
        source=st.none() | KEYS.map(lambda key: ObjectVersion(key, "e", 1)),
    ),
)
CHANGES = st.lists(st.tuples(KEYS, st.none() | WANTS), max_size=25)

Model = dict[str, Intent]


def is_present(intent: Intent) -> bool:
    return isinstance(intent.want, Present)


def shows_directory(model: Model, key: str) -> bool | None:
    if any(is_present(intent) for other, intent in model.items() if other.startswith(key)):
        return True
    return False if key in model else None


def check_directory(overlay: Overlay, model: Model, prefix: str) -> None:
    inside = {key[len(prefix) :] for key in model if key.startswith(prefix) and key != prefix}
    files = {name for name in inside if "/" not in name}
    directories = {name.split("/")[0] for name in inside if "/" in name}
    names = overlay.names(prefix)
    assert names.files == {name: model[prefix + name].want for name in files if is_present(model[prefix + name])}
    assert names.hidden_files == {name for name in files if not is_present(model[prefix + name])}
    shown = {name: shows_directory(model, f"{prefix}{name}/") for name in directories}
    assert names.directories == {name for name, is_shown in shown.items() if is_shown}
    assert names.hidden_directories == {name for name, is_shown in shown.items() if is_shown is False}


def check(overlay: Overlay, model: Model) -> None:
    overlay.check_invariants()
    assert {intent.key: intent for intent in overlay} == model
    assert len(overlay) == len(model)
    prefixes = {"", "a/", "b/a/", "nowhere/"}
    for key in model:
        prefixes |= {key[: at + 1] for at, character in enumerate(key) if character == "/"}
    for prefix in prefixes:
        below = {key for key in model if key.startswith(prefix)}
        assert sorted(intent.key for intent in overlay.below(prefix)) == sorted(below)
        key_below = overlay.key_below(prefix)
        assert (key_below is None) == (not below - {prefix})
        assert key_below is None or key_below in below - {prefix}
        if prefix:
            assert overlay.shows_directory(prefix) == shows_directory(model, prefix)
            assert overlay.waits_below(prefix) == bool(below - {prefix})
        check_directory(overlay, model, prefix)
    for key, intent in model.items():
        assert overlay.get(key) == intent
        assert overlay.is_absent(key) != is_present(intent)
        assert overlay.present(key) == (intent.want if is_present(intent) else None)
        assert overlay.dependents(key) == {
            other.key
            for other in model.values()
            if isinstance(other.want, Present) and other.want.source and other.want.source.key == key != other.key
        }
    for content in (1, 2, 3):
        users = {i.key for i in model.values() if isinstance(i.want, Present) and i.want.content == content}
        assert overlay.users(content) == users


@settings(deadline=None, max_examples=150)
@given(changes=CHANGES)
def test_every_question_has_the_answer_of_the_model(changes: list[tuple[str, Want | None]]) -> None:
    overlay, model = Overlay(), Model()
    for order, (key, want) in enumerate(changes):
        if want is None:
            assert overlay.remove(key) == model.pop(key, None)
        else:
            intent = model[key] = Intent(key, order, want, None, 0.0)
            overlay.put(intent)
        check(overlay, model)


def test_an_emptied_overlay_remembers_nothing() -> None:
    overlay = Overlay()
    for key in ("a/b/c/d", "a/b/", "a"):
        overlay.put(Intent(key, 1, Present(1, 1, ObjectVersion("x/y", "e", 1)), None, 0.0))
    for key in ("a", "a/b/c/d", "a/b/"):
        overlay.remove(key)
    assert (len(overlay), list(overlay.below("")), overlay.dependents("x/y"), overlay.users(1)) == (0, [], set(), set())
    assert overlay.names("") == overlay.names("a/b/")
    overlay.check_invariants()


@settings(deadline=None, max_examples=100)
@given(intents=st.dictionaries(KEYS, st.tuples(WANTS, st.booleans()), max_size=20))
def test_overlays_joined_are_one(intents: dict[str, tuple[Want, bool]]) -> None:
    overlay, other, model = Overlay(), Overlay(), Model()
    for order, (key, (want, is_other)) in enumerate(intents.items()):
        intent = model[key] = Intent(key, order, want, None, 0.0)
        (other if is_other else overlay).put(intent)
    overlay.merge(other)
    check(overlay, model)
    for key in list(model):
        overlay.remove(key)
        del model[key]
        check(overlay, model)
