"""The options as one job sees them, fixed when the job is planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from latentd.types import JsonValue, OptionValues


class Snapshot(Mapping[str, JsonValue]):
    """The value of every option at one moment, with a request's overrides applied. Immutable and picklable.

    :ivar overrides: the overrides that took effect, converted to their types.
    :ivar ignored: the overrides that did not take effect, with the reasons.
    """

    __slots__ = ("_values", "ignored", "overrides")

    def __init__(
        self,
        values: OptionValues,
        overrides: OptionValues | None = None,
        *,
        ignored: Mapping[str, str] | None = None,
    ) -> None:
        self.overrides: OptionValues = dict(overrides or {})
        self.ignored: Mapping[str, str] = dict(ignored or {})
        self._values = {**values, **self.overrides}

    def __getitem__(self, key: str) -> JsonValue:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Snapshot({len(self)} options, overrides={dict(self.overrides)!r})"
