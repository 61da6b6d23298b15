"""A factory of servers with the plugin."""

from __future__ import annotations

from latentd.testing import latentd_app

__all__ = ["latentd_app"]
