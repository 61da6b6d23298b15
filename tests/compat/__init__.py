"""How each endpoint stands to AUTOMATIC1111's: contracts that the tests check and docs/compatibility is made from."""

from tests.compat import actions, control, detailer, extensions, lists, openai, operations, ours, pictures, training
from tests.compat.contract import CONTRACTS as ALL

__all__ = ["ALL", "actions", "control", "detailer", "extensions", "lists", "openai", "operations", "ours", "pictures",
           "training"]  # fmt: skip
