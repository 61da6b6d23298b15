"""Protection against pages of other sites that use this server through a visitor's browser.

A browser sends requests to whatever address a page names, from the visitor's network and with the stored credentials.
Two attacks matter here. With DNS rebinding, a page's own host name resolves to 127.0.0.1, so that the page may read the
answers: such requests carry the page's host in ``Host``. And a page may send a form or a ``fetch`` whose answer it
cannot read, but which changes something: browsers mark these with ``Origin`` and ``Sec-Fetch-Site``, which a page
cannot forge. Programs other than browsers send neither.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from latentd.server.errors import error_body
from latentd.server.json_reply import SafeJSONResponse
from latentd.settings import Settings

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_PROTECTIVE = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}


@dataclass(frozen=True, kw_only=True)
class BrowserRules:
    """Which requests of browsers are allowed.

    :param hosts: names of the server, in lower case; ``*`` is any name, ``.example.com`` that domain and all below it.
        None: any name, because every request has to show credentials, and browsers store those by name.
    :param origins: origins whose pages may send requests that change something; ``*`` is any.
    :param origin_pattern: a regular expression for further origins, which has to match all of the origin.
    """

    hosts: frozenset[str] | None
    origins: frozenset[str] = frozenset()
    origin_pattern: re.Pattern[str] | None = None

    @classmethod
    def from_settings(cls, settings: Settings, *, guarded: bool) -> BrowserRules:
        """The rules that the flags ask for.

        :param guarded: whether requests have to show credentials.
        """
        own = socket.gethostname().lower()
        named = [settings.server_name or "", own, f"{own}.local", *certificate_names(settings.tls_certfile)]
        hosts = frozenset(name.lower() for name in (*named, *settings.allowed_hosts) if name)
        pattern = settings.cors_allow_origins_regex
        return cls(
            hosts=None if guarded and not settings.allowed_hosts else hosts,
            origins=frozenset(filter(None, (settings.cors_allow_origins or "").split(","))),
            origin_pattern=re.compile(pattern) if pattern else None,
        )

    def objection(self, method: str, headers: Headers) -> tuple[str, str] | None:
        """The reason to refuse a request, and a hint; None when it is allowed."""
        host = headers.get("host")
        if host is not None and not self.is_known(host):
            return f"this server is not known as {host!r}", "see --allowed-hosts"
        if method not in _READING and not self._may_write(headers):
            origin = headers.get("origin", "another site")
            return f"a page of {origin} may not do this", "see --cors-allow-origins"
        return None

    def is_known(self, host: str) -> bool:
        """Whether ``host`` (of a ``Host`` header) is an address, ``localhost``, or a name of this server's."""
        name = host_name(host)
        if self.hosts is None or name == "localhost" or name.endswith(".localhost") or _is_address(name):
            return True
        return any(_fits(name, known) for known in self.hosts)

    def _may_write(self, headers: Headers) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if site in ("same-origin", "none"):
            return True
        if origin is None:
            return site is None
        if "*" in self.origins or origin in self.origins:
            return True
        if self.origin_pattern is not None and self.origin_pattern.fullmatch(origin):
            return True
        # Older browsers send no Sec-Fetch-Site. Behind a proxy, X-Forwarded-Host has the name that the browser used.
        hosts = {headers.get("host", ""), headers.get("x-forwarded-host", "")}
        return urlsplit(origin).netloc in hosts - {""}


def host_name(host: str) -> str:
    """The name in a ``Host`` header, without port, brackets and final dot, in lower case."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].removesuffix(".")


def certificate_names(certificate: str | None) -> list[str]:
    """The host names in a certificate file; none without a file, or when it cannot be read."""
    if not certificate:
        return []
    import _ssl

    try:
        found = _ssl._test_decode_cert(certificate)  # type: ignore[attr-defined]
    except (OSError, ValueError):
        return []
    names = [value for kind, value in found.get("subjectAltName", ()) if kind == "DNS"]
    return [name.removeprefix("*") for name in names]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _fits(name: str, known: str) -> bool:
    return known in ("*", name) or (known.startswith(".") and (name.endswith(known) or name == known[1:]))


class BrowserGuardMiddleware:
    """Answers 403 to what :class:`BrowserRules` refuses; its headers forbid frames and type guessing for any answer."""

    def __init__(self, app: ASGIApp, *, rules: BrowserRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403; add the protective headers to every answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _PROTECTIVE.items():
                    headers.setdefault(name, value)
            await send(message)

        objection = self._rules.objection(scope["method"], Headers(scope=scope))
        if objection is None:
            await self._app(scope, receive, protected)
            return
        detail, hint = objection
        reply = SafeJSONResponse(error_body("HTTPException", detail, hint=hint), 403)
        await reply(scope, receive, protected)
