"""The option store: AUTOMATIC1111's options with their types, kept in config.json and overridden by requests."""

from __future__ import annotations

from latentd.options.policy import WritePolicy
from latentd.options.snapshot import Snapshot
from latentd.options.store import OptionStore

__all__ = ["OptionStore", "Snapshot", "WritePolicy"]
