"""``latentd serve``: the server in the foreground until it is stopped."""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from collections.abc import Sequence
from typing import Any

from latentd.settings import Settings, parse_settings
from latentd.settings.parse import flags_parser

logger = logging.getLogger("latentd")

MISSING_PLUGIN = 2
ADDRESS_TAKEN = 1


def run(arguments: Sequence[str]) -> int:
    """Start the server; gives 0 after a stop, 1 when the address is taken, 2 when a required plugin is missing."""
    settings = parse_settings(arguments, parser=make_parser())
    set_up_logging(settings)
    if problem := _address_problem(settings):
        print(f"latentd: {problem}", file=sys.stderr)
        return ADDRESS_TAKEN

    from latentd.plugins.host import PluginHost

    host = PluginHost.from_settings(settings)
    if missing := host.missing_required():
        print("latentd: required plugins are not there:", *missing, sep="\n  ", file=sys.stderr)
        return MISSING_PLUGIN
    _say_what_is_odd(settings)

    import uvicorn

    from latentd.server.app import create_app

    uvicorn.run(create_app(settings, host), **_uvicorn_manners(settings))
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of ``latentd serve``."""
    return flags_parser(
        "latentd serve",
        "Start the server. Every flag can also be given as an environment variable: --data-dir as LATENTD_DATA_DIR. "
        "AUTOMATIC1111's COMMANDLINE_ARGS is read as well.",
    )


def set_up_logging(settings: Settings) -> None:
    """Log to the standard error stream at the level of ``--loglevel`` (INFO)."""
    logging.basicConfig(
        level=settings.loglevel or "INFO",
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )


def _address_problem(settings: Settings) -> str | None:
    """Why the server could not listen, in one sentence; uvicorn would tell it after loading everything."""
    host, port = settings.bind_host, settings.bind_port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, OverflowError) as error:
        return f"cannot listen on {host} port {port}: {error}; choose another with --port"
    return None


def _say_what_is_odd(settings: Settings) -> None:
    if idle := settings.without_effect():
        logger.info("without effect here: %s", " ".join(idle))
    if settings.is_open_to_all:
        logger.warning(
            "everyone who can reach %s port %d can use this server: set --api-auth user:password or --api-key",
            settings.bind_host,
            settings.bind_port,
        )
    if bool(settings.tls_keyfile) != bool(settings.tls_certfile):
        logger.warning("--tls-keyfile and --tls-certfile are both needed for TLS: this is plain HTTP")


def _uvicorn_manners(settings: Settings) -> dict[str, Any]:
    manners: dict[str, Any] = {
        "host": settings.bind_host,
        "port": settings.bind_port,
        "root_path": f"/{settings.subpath.strip('/')}" if settings.subpath else "",
        "timeout_keep_alive": settings.timeout_keep_alive,
        "access_log": False,
        "log_config": None,
    }
    if settings.tls_keyfile and settings.tls_certfile:
        manners |= {"ssl_keyfile": settings.tls_keyfile, "ssl_certfile": settings.tls_certfile}
    return manners
