"""Settings of the process: command-line flags under AUTOMATIC1111's names, environment variables, and folders.

Only the standard library is imported here, so that ``latentd --help`` is quick: why it is not pydantic-settings,
which reads no ``COMMANDLINE_ARGS`` either.
"""

from __future__ import annotations

from latentd.settings.cmd_flags import cmd_flags
from latentd.settings.parse import parse_settings
from latentd.settings.paths import Paths
from latentd.settings.settings import Settings

__all__ = ["Paths", "Settings", "cmd_flags", "parse_settings"]
