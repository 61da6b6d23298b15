"""``latentd serve``: the server in the foreground until it is stopped."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from latentd.cli.log_lines import JsonLines, LogLines
from latentd.cli.settings import UNUSABLE, read_settings
from latentd.errors import LatentdError
from latentd.models.allocator import keep_freed_memory
from latentd.settings import Settings
from latentd.settings.parse import flags_parser

CANNOT_START = 1
DESCRIPTION = (
    "Start the server. Every flag can also be given as an environment variable: --data-dir as LATENTD_DATA_DIR. "
    "AUTOMATIC1111's COMMANDLINE_ARGS is read as well."
)


def run(arguments: Sequence[str]) -> int:
    """Start the server; returns 0 after a stop, 1 if it cannot start, 2 if flags or required plugins are wrong."""
    settings = read_settings(arguments, flags_parser("latentd serve", DESCRIPTION))
    set_up_logging(settings)
    keep_freed_memory()

    from latentd.server.serve import serve

    try:
        return serve(settings)
    except OSError as error:
        print(f"latentd: port {settings.bind_port} of {settings.bind_host}: {error}", file=sys.stderr)
        print("choose another with --port", file=sys.stderr)
    except LatentdError as error:
        print(f"latentd: {error.detail}" + (f" ({error.hint})" if error.hint else ""), file=sys.stderr)
    except ValueError as error:
        print(f"latentd: {error}", file=sys.stderr)
        return UNUSABLE
    return CANNOT_START


def set_up_logging(settings: Settings, default: str = "INFO") -> None:
    """Log to the standard error stream at the level of ``--loglevel``, in the form of ``--log-format``."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if settings.log_format == "json" else LogLines())
    logging.basicConfig(level=settings.loglevel or default, handlers=[handler])
