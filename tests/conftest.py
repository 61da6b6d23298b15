"""What every test shares: the fixture that plugin authors get, and an environment free of the machine's own flags."""

from __future__ import annotations

import os

import pytest

from latentd.testing import latentd_app

__all__ = ["latentd_app"]


@pytest.fixture(autouse=True, scope="session")
def _no_flags_from_outside() -> None:
    for name in [name for name in os.environ if name.startswith("LATENTD_") or name == "COMMANDLINE_ARGS"]:
        del os.environ[name]
