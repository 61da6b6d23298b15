"""Who may call: HTTP basic users, bearer keys, and whoever a plugin vouches for (endpoints 0.2)."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from latentd.server.errors import error_body
from latentd.server.json_reply import SafeJSONResponse
from latentd.server.tickets import Tickets

NOT_AUTHENTICATED = "Not authenticated"
WRONG_CREDENTIALS = "Incorrect username or password"

Vouch = Callable[[Request], str | None]
IsPublic = Callable[[Scope], bool]


class Credentials:
    """The users and keys that the flags name; comparisons take the same time whatever is wrong.

    :param users: user names to passwords.
    :param keys: bearer keys.
    """

    def __init__(self, users: Mapping[str, str], keys: Sequence[str]) -> None:
        self._users = {name: _digest(password) for name, password in users.items()}
        self._keys = [_digest(key) for key in keys if key]

    def __bool__(self) -> bool:
        return bool(self._users or self._keys)

    def user_of(self, header: str | None) -> tuple[str | None, str]:
        """(user, problem) for an ``Authorization`` header: the user's name, or None and what to answer."""
        scheme, _, value = (header or "").partition(" ")
        if scheme.lower() == "bearer" and self._keys:
            matches = [hmac.compare_digest(key, _digest(value.strip())) for key in self._keys]
            return ("bearer", "") if any(matches) else (None, WRONG_CREDENTIALS)
        if scheme.lower() == "basic":
            return self._basic(value)
        return None, NOT_AUTHENTICATED

    def _basic(self, value: str) -> tuple[str | None, str]:
        try:
            name, colon, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
        except (binascii.Error, ValueError):
            return None, NOT_AUTHENTICATED
        if not colon:
            return None, NOT_AUTHENTICATED
        known = self._users.get(name)
        right = hmac.compare_digest(known or _digest(""), _digest(password))
        return (name, "") if right and known is not None else (None, WRONG_CREDENTIALS)


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", errors="surrogatepass")).digest()


class AuthMiddleware:
    """Lets a request through when its credentials are right, its route public, or a plugin vouches for it.

    ``request.state.user`` is who calls, on public routes too where the credentials say so; no plugin is asked there.

    :param vouch: the plugins' ``authenticate``; None where no plugin has that hook.
    :param tickets: passes that open the routes for which ``takes_ticket`` is true, as query parameter ``ticket``.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        credentials: Credentials,
        is_public: IsPublic,
        tickets: Tickets,
        takes_ticket: IsPublic,
        vouch: Vouch | None = None,
    ) -> None:
        self._app = app
        self._credentials = credentials
        self._is_public = is_public
        self._tickets = tickets
        self._takes_ticket = takes_ticket
        self._vouch = vouch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        open_to_all = not self._credentials and self._vouch is None
        if open_to_all or scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        public = self._is_public(scope)
        user, problem = self._credentials.user_of(Headers(scope=scope).get("authorization"))
        if user is None and self._vouch is not None and scope["type"] == "http" and not public:
            user = self._vouch(Request(scope))
        if user is None:
            user = self._ticket_holder(scope)
        if user is not None:
            scope.setdefault("state", {})["user"] = user
        if user is not None or public:
            await self._app(scope, receive, send)
            return
        headers = {"WWW-Authenticate": "Basic"}
        reply = SafeJSONResponse(error_body("HTTPException", problem), 401, headers)
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await reply(scope, receive, send)

    def _ticket_holder(self, scope: Scope) -> str | None:
        token = QueryParams(scope["query_string"]).get("ticket")
        return self._tickets.user_of(token) if token and self._takes_ticket(scope) else None
