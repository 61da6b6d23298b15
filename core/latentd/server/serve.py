"""Running the server: uvicorn, signals, and the log lines at the start."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import socket
import threading
from importlib import metadata
from types import FrameType

import uvicorn
from fastapi import FastAPI

from latentd import __version__
from latentd.server.accepting import Acceptor, connection_limit
from latentd.server.app import create_app
from latentd.server.connections import Connections, TimedProtocol
from latentd.server.log_limit import LogLimit
from latentd.server.services import AppServices
from latentd.settings import Settings
from latentd.settings.checks import idle_flags, missing_places

log = logging.getLogger("latentd")

GRACE_SECONDS = 15
#: The variable that AUTOMATIC1111's start scripts set when they start the server again after it ends.
RESTARTER = "SD_WEBUI_RESTART"
#: Loggers whose lines clients can cause in any number.
_BY_CLIENTS = ("latentd.connections", "uvicorn.error")


def serve(settings: Settings) -> int:
    """Serve until told to stop; return the exit status. With port 0 the system chooses a port; the address is logged.

    :raises ValueError: a flag is malformed, or the certificate cannot be used.
    :raises OSError: the address is in use.
    """
    app = create_app(settings, warm_up=True)
    services: AppServices = app.state.services
    if _lacks_plugins(services):
        return 2
    _warn(settings)
    for logger in _BY_CLIENTS:
        logging.getLogger(logger).addFilter(LogLimit())
    server = _Server(_config(app, settings), services, _connections(settings))
    with _listen(settings) as listener:
        # Before the first request, because this may find that a plugin is broken.
        services.start()
        if _lacks_plugins(services):
            services.close()
            return 2
        for line in banner(services):
            log.info("%s", line)
        log.info("latentd listens on %s", address(settings, listener))
        asyncio.run(server.serve(sockets=[listener]))
    if not services.engine.close(timeout=0.0):
        # Python's own end would pull the interpreter from under a thread in torch's code, which aborts the process.
        log.warning("the process ends while a job is still at work")
        logging.shutdown()
        os._exit(0)
    return 0


def banner(services: AppServices) -> list[str]:
    """The log lines at the start: versions, data folder, models, plugins. Does not import torch.

    The device is not among them: it is chosen, and logged, when the first model is loaded.
    """
    models, host = services.models, services.host
    checkpoints = len(models.checkpoints)
    selected = f" (selected is {models.current.title})" if checkpoints else ""
    states: dict[str, list[str]] = {}
    for status in host.statuses.values():
        if not status.builtin:
            states.setdefault(status.state, []).append(status.name)
    running = ", ".join(states.pop("loaded", [])) or "none"
    others = "".join(f"; {state}: {', '.join(names)}" for state, names in states.items())
    return [
        f"latentd {__version__}, torch {_version_of('torch')}, Python {platform.python_version()}",
        f"data folder {services.paths.data}",
        f"checkpoints: {checkpoints or 'none'}{selected}; VAEs: {len(models.vaes.rows()) or 'none'}",
        f"plugins: {running}{others}",
    ]


def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _lacks_plugins(services: AppServices) -> bool:
    missing = services.host.missing_required()
    for line in missing:
        log.error("required plugin %s", line)
    return bool(missing)


def address(settings: Settings, listener: socket.socket) -> str:
    """The URL of the server, with the port on which it listens."""
    scheme = "https" if _has_tls(settings) else "http"
    host = settings.bind_host
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{scheme}://{shown}:{listener.getsockname()[1]}"


def _listen(settings: Settings) -> socket.socket:
    host = settings.bind_host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is given, not 0: only then asyncio sets TCP_NODELAY, without which small replies wait for ACKs.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, settings.bind_port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    tls = {"ssl_keyfile": settings.tls_keyfile, "ssl_certfile": settings.tls_certfile} if _has_tls(settings) else {}
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        ws="none",
        timeout_keep_alive=settings.timeout_keep_alive,
        timeout_graceful_shutdown=GRACE_SECONDS,
        **tls,  # type: ignore[arg-type]
    )
    try:
        config.load()
    except OSError as error:
        raise ValueError(f"--tls-keyfile and --tls-certfile: {error}") from error
    return config


def _connections(settings: Settings) -> Connections:
    """The server's connections, with the bounds that the flags set.

    :raises ValueError: a bound is 0 or less.
    """
    for name, seconds in ("request", settings.timeout_request), ("reply", settings.timeout_reply):
        if not seconds > 0:
            raise ValueError(f"--timeout-{name} must be above 0")
    return Connections(
        limit=connection_limit(settings.max_connections),
        request_timeout=settings.timeout_request,
        reply_timeout=settings.timeout_reply,
    )


def _has_tls(settings: Settings) -> bool:
    return bool(settings.tls_keyfile and settings.tls_certfile)


def _warn(settings: Settings) -> None:
    if settings.is_open_to_all:
        log.warning(
            "ANYONE who can reach this machine can use this server: it listens on %s without authentication "
            "(see --api-auth and --api-key)",
            settings.bind_host,
        )
    for place in missing_places(settings):
        log.warning("%s: this does not exist", place)
    for told in idle_flags(settings):
        log.warning("%s", told)
    for flag in settings.without_effect():
        log.info("%s has no effect in latentd", flag)


class _Server(uvicorn.Server):
    """uvicorn, ending on signals: at the first the running job returns what it has, at the second the process ends.

    :class:`Acceptor` accepts and checks the connections.
    """

    def __init__(self, config: uvicorn.Config, services: AppServices, connections: Connections) -> None:
        super().__init__(config)
        self._services = services
        self._connections = connections
        services.on_exit = self._exit

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Without sockets, uvicorn's own start only starts the application.
        await super().startup(sockets=[])
        for listener in sockets or []:
            acceptor = Acceptor(listener, self._connections, self._protocol, self.config.ssl)
            acceptor.start()
            self.servers.append(acceptor)  # type: ignore[arg-type]

    def _protocol(self) -> TimedProtocol:
        return TimedProtocol(self.config, self.server_state, self.lifespan.state, self._connections)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's own handler raises the signal again at the end; here a process that was asked to end has status 0.
        if self.should_exit:
            os._exit(128 + sig)
        self._close_engine()
        self.should_exit = True

    def _close_engine(self) -> None:
        threading.Thread(target=self._services.engine.close, name="closing", daemon=True).start()

    def _exit(self, kind: str) -> bool:
        if kind == "restart":
            if not os.environ.get(RESTARTER):
                return False
            marker = self._services.paths.data / "tmp" / "restart"
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
        if kind == "kill":
            os._exit(0)
        self._close_engine()
        self.should_exit = True
        return True
