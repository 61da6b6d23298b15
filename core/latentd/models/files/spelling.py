"""Names of model files with other spellings: with backslashes, in another case, in another folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

_HASHED = re.compile(r"(?P<name>.*?)\s*\[(?P<hash>[^\[\]]*)\]\s*")


def spelled(name: str) -> str:
    """``name`` in a form in which spellings do not differ: forward slashes, lower case, no white space at the ends."""
    return name.strip().replace("\\", "/").casefold()


class Spellings(Generic[T]):
    """Finds the item that a name with another spelling means, if only one fits.

    :param known: the exact names of each item, including its hashes.
    """

    def __init__(self, known: Iterable[tuple[str, T]]) -> None:
        self._known: dict[str, list[T]] = {}
        for name, thing in known:
            things = self._known.setdefault(spelled(name), [])
            if thing not in things:
                things.append(thing)

    def find(self, name: str, *, suffixes: Sequence[str] = ()) -> T | None:
        """The only item that fits ``name``, or None: by the whole text, else by its name and its ``[hash]``.

        A name also fits in another folder and with another of the file ``suffixes`` (lower case, with their dot). If
        name and hash fit different items, the result is None.
        """
        fitting = self._known.get(spelled(name))
        if fitting is None:
            parts = _HASHED.fullmatch(name)
            bare, digest = (parts["name"], parts["hash"]) if parts else (name, "")
            found = self._by_name(spelled(bare), suffixes)
            fitting = [*found, *(thing for thing in self._known.get(spelled(digest), ()) if thing not in found)]
        return fitting[0] if len(fitting) == 1 else None

    def _by_name(self, name: str, suffixes: Sequence[str]) -> Sequence[T]:
        stem = name.removesuffix(next((suffix for suffix in suffixes if name.endswith(suffix)), ""))
        tries = (name, *(stem + suffix for suffix in suffixes), *(text.rpartition("/")[2] for text in (name, stem)))
        return next((found for text in tries if text and (found := self._known.get(text))), ())
