"""What a signature must survive: keys, query values and headers as unkind as HTTP lets them be."""

from __future__ import annotations

from hypothesis import strategies as st

# As HTTP carries them: no control characters. Inner runs of spaces are the interesting part.
HEADER_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60) | st.sampled_from(
    ["//", "/", ".", "..", "a/../b", "./a", "a//b", "+", "%", "%2F", " ", "a b", "\N{GRINNING FACE}", "/a/", "~*'()!"]
)
