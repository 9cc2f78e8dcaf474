"""Parse XML that comes from outside into a tree, safely and with all that a key may hold.

Elements are matched by local name, in any namespace. A document with a DOCTYPE, the only place where entities can be
declared, is refused before parsing. The standard library's parser, which is C, takes less than half the time of
defusedxml's, which runs in Python.

Keys may hold control characters, which XML 1.0 can't express. The engine behind Spaces writes them as ``&#x01;`` all
the same (also in tokens and markers, where ``encoding-type=url`` changes nothing), so a document that does not parse
is parsed once more with stand-ins for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError, XMLParser

MAX_TAGS = 100_000  # a full page of 1,000 has about 25,000; millions would take gigabytes of memory

_INEXPRESSIBLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # nor surrogates, which are no text
_REFERENCE = re.compile(r"&#(?:x(?P<hex>[0-9A-Fa-f]{1,4})|(?P<dec>[0-9]{1,5}));", re.ASCII)
_PRIVATE_USE = range(0xF0000, 0xFFFFE)


class Malformed(ValueError):
    """A reply is not what it should be; says in a few words what is wrong with it."""


def parse_root(body: bytes, *names: str) -> Element:
    """Parse a document whose root must have one of these local names.

    Raises:
        Malformed: It is not XML, or another document.
    """
    text = _text(body)
    try:
        root = _parse(text)
    except ParseError:
        root = _parse_with_stand_ins(text)
    if local_name(root) not in names:
        raise Malformed(f"a document that is not {names[0]}")
    return root


def local_name(element: Element) -> str:
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def same_namespace(element: Element, name: str) -> str:
    """Return the full tag of a local name in the namespace of an element, as ``find`` and its like take it."""
    namespace, brace, _ = element.tag.rpartition("}")
    return f"{namespace}{brace}{name}"


def child_texts(element: Element) -> dict[str, str]:
    """Return the text of an element's children by local name; of several with one name the last."""
    return {child.tag.rpartition("}")[2]: child.text or "" for child in element}


def descendants(element: Element, name: str) -> Iterator[Element]:
    """Walk all descendants of one local name."""
    return (found for found in element.iter() if local_name(found) == name)


def is_expressible(text: str) -> bool:
    """Tell whether XML 1.0 can carry a text at all."""
    return _INEXPRESSIBLE.search(text) is None


def _text(body: bytes) -> str:
    """Decode a body and refuse what could declare entities."""
    try:
        text = body.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise Malformed("a body that is not UTF-8") from None
    if not text:
        raise Malformed("an empty body")
    if text.count("<") > MAX_TAGS:
        raise Malformed("far too many elements")
    if "<!DOCTYPE" in text:
        raise Malformed("HTML or another document with a DOCTYPE")
    return text


def _parse(text: str) -> Element:
    parser = XMLParser()  # noqa: S314 - a DOCTYPE was refused
    parser.feed(text)
    root: Element = parser.close()
    return root


def _parse_with_stand_ins(text: str) -> Element:
    """Parse with each inexpressible character as four hex digits after a mark that the text does not hold."""
    try:
        mark = _unused_character(text)
        text = _REFERENCE.sub(lambda found: _stand_in(found, mark), text)
        root = _parse(_INEXPRESSIBLE.sub(lambda found: f"{mark}{ord(found[0]):04x}", text))
    except (ParseError, StopIteration):
        raise Malformed("a body that is not XML") from None
    for element in root.iter():
        if element.text and mark in element.text:
            element.text = re.sub(f"{mark}([0-9a-f]{{4}})", lambda found: chr(int(found[1], 16)), element.text)
    return root


def _unused_character(text: str) -> str:
    """Return a character that a text does not hold; StopIteration if it holds all."""
    first = chr(_PRIVATE_USE[0])
    if first not in text:
        return first
    used = set(text)  # looking for one character after the other would take hours where a text holds most
    return next(char for char in map(chr, _PRIVATE_USE) if char not in used)


def _stand_in(found: re.Match[str], mark: str) -> str:
    """Return what stands for a reference that XML does not allow; others stay as they are."""
    char = chr(int(found["hex"], 16) if found["hex"] else int(found["dec"]))
    return found[0] if is_expressible(char) else f"{mark}{ord(char):04x}"
