"""The tiny models under their first name, by which checks that are kept outside this tree import them."""

from __future__ import annotations

from latentd.testing.tiny_models import checkpoint, write

__all__ = ["checkpoint", "write"]
