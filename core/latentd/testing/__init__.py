"""What plugin authors test with: a server in the process, and checks for samplers, upscalers, scripts and routers.

In a ``conftest.py``: ``from latentd.testing import latentd_app`` makes the fixture known.
"""

from __future__ import annotations

from latentd.testing.app import AppFactory, latentd_app
from latentd.testing.contracts import check_hooks, check_routers, check_script, check_upscaler
from latentd.testing.headless import HeadlessServices
from latentd.testing.samplers import check_sampler

__all__ = [
    "AppFactory",
    "HeadlessServices",
    "check_hooks",
    "check_routers",
    "check_sampler",
    "check_script",
    "check_upscaler",
    "latentd_app",
]
