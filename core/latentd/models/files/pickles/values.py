"""What a pickle may hold, by name."""

from __future__ import annotations

from typing import Any, TypeAlias

PickleValue: TypeAlias = Any
"""Whatever its writer put there; looked at before it is used."""
PickleDict: TypeAlias = dict[Any, Any]
"""A dictionary of that."""
