"""The ASGI application: its routes, middleware, start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from latentd import __version__
from latentd.server import errors
from latentd.server.auth import AuthMiddleware, Credentials, RouteScopes
from latentd.server.body_limits import LARGE_BODY, BodyBoundMiddleware
from latentd.server.browser import BrowserGuardMiddleware, BrowserRules
from latentd.server.engine_setup import MEBIBYTE
from latentd.server.json_reply import LateJSONResponse
from latentd.server.keys import read_keys
from latentd.server.middleware import (
    ErrorFormatMiddleware,
    LastNetMiddleware,
    PiecesMiddleware,
    PrivateNetworkCors,
    RequestObserver,
    SubpathMiddleware,
    TimingMiddleware,
    cors_arguments,
)
from latentd.server.openapi import describe, serve_document
from latentd.server.public import MarkedRoutes, PublicRoutes
from latentd.server.routes import front
from latentd.server.services import ROUTES, AppServices, create_services
from latentd.settings import Settings

GZIP_FROM = 1000
GZIP_ON_THREAD_FROM = 16 << 10
_CORE = "latentd." + ROUTES.rpartition(".")[2]


def create_app(
    settings: Settings | None = None,
    *,
    services: AppServices | None = None,
    extra_plugins: Iterable[tuple[str, object]] = (),
    warm_up: bool = False,
) -> FastAPI:
    """The application that ``settings`` describe; ``app.state.services`` are its services.

    :param services: ready-made services in place of those that ``settings`` give.
    :param warm_up: load the model after the first answer instead of with the first generation.
    :raises ValueError: a flag is malformed (users, keys file, CORS pattern).
    """
    if services is None:
        services = create_services(settings or Settings(), extra_plugins=extra_plugins)
    settings = services.settings
    app = FastAPI(
        title="latentd",
        version=__version__,
        summary="A Stable Diffusion server that speaks AUTOMATIC1111's web API.",
        default_response_class=LateJSONResponse,
        # The core's own pages need no internet (routes/documentation.py).
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # Clients of AUTOMATIC1111 may leave the Content-Type out.
        strict_content_type=False,
        lifespan=_lifespan(services),
    )
    app.state.services = services
    errors.install(app)
    routers = [*services.host.routers(), *_front_page(services)]
    for owner, router in routers:
        guards = [] if owner == _CORE else [Depends(_alive(services, owner))]
        app.include_router(router, dependencies=guards)
    app.openapi = describe(app, services)  # type: ignore[method-assign]
    serve_document(app)
    _wrap(app, services, routers, warm_up)
    return app


def _front_page(services: AppServices) -> list[tuple[str, APIRouter]]:
    """The router of the page at ``/`` with its owner; none if a plugin has such a page."""
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    routes = [route for _, router in services.host.routers() for route in router.routes]
    if any(route.matches(scope)[0] is Match.FULL for route in routes):
        return []
    return [(_CORE, front.router(services))]


def _wrap(app: FastAPI, services: AppServices, routers: Sequence[tuple[str, APIRouter]], warm_up: bool) -> None:
    """Add the middleware, innermost first."""
    settings = services.settings
    routes = [route for _, router in routers for route in router.routes]
    app.add_middleware(LastNetMiddleware)
    vouch = services.hooks.authenticate if services.hooks.implemented("authenticate") else None
    limited = read_keys(settings.paths.resolve(settings.api_keys_file)) if settings.api_keys_file is not None else []
    credentials = Credentials(settings.users, settings.api_key, limited)
    app.add_middleware(
        AuthMiddleware,
        credentials=credentials,
        is_public=PublicRoutes(routes),
        scope_of=RouteScopes(routes),
        tickets=services.tickets,
        takes_ticket=MarkedRoutes(routes, "x-ticket"),
        vouch=vouch,
    )
    # What the routes of plugins take is not known, so they get the larger bound.
    others = [route for owner, router in routers if owner != _CORE for route in router.routes]
    takes_pictures = MarkedRoutes(routes, LARGE_BODY, *others)
    app.add_middleware(
        BodyBoundMiddleware, max_bytes=int(settings.max_request_mb * MEBIBYTE), takes_pictures=takes_pictures
    )
    if services.hooks.implemented("error_reply"):
        app.add_middleware(ErrorFormatMiddleware, translate=services.hooks.error_reply)
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_FROM, thread_minimum_size=GZIP_ON_THREAD_FROM)
    app.add_middleware(PiecesMiddleware)
    app.add_middleware(
        PrivateNetworkCors, **cors_arguments(settings.cors_allow_origins, settings.cors_allow_origins_regex)
    )
    guarded = bool(credentials) or vouch is not None
    app.add_middleware(BrowserGuardMiddleware, rules=BrowserRules.from_settings(settings, guarded=guarded))
    hooks = services.hooks
    if hooks.implemented("request_begun") or hooks.implemented("request_done"):
        app.add_middleware(RequestObserver, begun=hooks.request_begun, done=hooks.request_done)
    app.add_middleware(TimingMiddleware, log_requests=settings.api_log)
    if prefix := (settings.subpath or "").strip("/"):
        app.add_middleware(SubpathMiddleware, prefix=f"/{prefix}")
    if warm_up:
        app.add_middleware(_AfterFirstAnswer, action=services.warm_up)


def _alive(services: AppServices, owner: str) -> Callable[[Request], Awaitable[None]]:
    async def require_alive(request: Request) -> None:
        # Named when the route fails.
        request.state.plugin = owner
        services.host.require_alive(owner)

    return require_alive


def _lifespan(services: AppServices) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(services.start)
        yield
        await asyncio.to_thread(services.close)

    return lifespan


class _AfterFirstAnswer:
    """Calls ``action`` once, after the first reply is sent: ``action`` imports torch, which would delay that reply."""

    def __init__(self, app: ASGIApp, *, action: Callable[[], None]) -> None:
        self._app = app
        self._action: Callable[[], None] | None = action

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            await send(message)
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if last and self._action is not None:
                action, self._action = self._action, None
                action()

        await self._app(scope, receive, watched if scope["type"] == "http" else send)
