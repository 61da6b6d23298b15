"""The option store: AUTOMATIC1111's settings with their types, kept in config.json, laid over by each request."""

from __future__ import annotations

from latentd.options.policy import WritePolicy
from latentd.options.snapshot import Snapshot
from latentd.options.store import OptionStore

__all__ = ["OptionStore", "Snapshot", "WritePolicy"]
