"""Tools for testing plugins: a server in the test's process, and checks for what plugins offer.

``from latentd.testing import latentd_app`` in a ``conftest.py`` makes the fixture available.
"""

from __future__ import annotations

from latentd.testing.app import AppFactory, latentd_app
from latentd.testing.contracts import check_hooks, check_routers, check_script, check_upscaler
from latentd.testing.executor import check_executor
from latentd.testing.headless import HeadlessServices
from latentd.testing.samplers import check_sampler

__all__ = [
    "AppFactory",
    "HeadlessServices",
    "check_executor",
    "check_hooks",
    "check_routers",
    "check_sampler",
    "check_script",
    "check_upscaler",
    "latentd_app",
]
