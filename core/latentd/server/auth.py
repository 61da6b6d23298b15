"""Who may call what: HTTP basic users, bearer keys, and callers whom a plugin accepts (rules: a1111-auth)."""

from __future__ import annotations

import base64
import binascii
import hmac
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from latentd.errors import NotAllowed
from latentd.server.errors import error_body
from latentd.server.json_reply import SafeJSONResponse
from latentd.server.keys import Key, Scope, digest_of, find_key
from latentd.server.tickets import Tickets
from latentd.server.wrong_tries import WrongTries

NOT_AUTHENTICATED = "Not authenticated"
WRONG_CREDENTIALS = "Incorrect username or password"

Vouch = Callable[[Request], str | None]
IsPublic = Callable[[Connection], bool]

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. ``key`` is the key of a keys file that it shows; without one everything is allowed."""

    name: str
    key: Key | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the caller may do what needs ``scope``."""
        return self.key is None or self.key.allows(scope)


class Credentials:
    """The users and keys that the flags name. Comparisons take the same time wherever the texts differ.

    :param users: user names to passwords.
    :param keys: bearer keys that allow everything.
    :param limited: keys of a keys file.
    """

    def __init__(self, users: Mapping[str, str], keys: Sequence[str], limited: Sequence[Key] = ()) -> None:
        self._users = {name: digest_of(password) for name, password in users.items()}
        everything = frozenset({Scope.ADMIN})
        self._keys = [*(Key("bearer", everything, digest_of(key)) for key in keys if key), *limited]

    def __bool__(self) -> bool:
        return bool(self._users or self._keys)

    def caller_of(self, header: str | None) -> tuple[Caller | None, str]:
        """The caller that an ``Authorization`` header proves, and "" ; or None and the text of the answer."""
        scheme, _, value = (header or "").partition(" ")
        if scheme.lower() == "bearer" and self._keys:
            found = find_key(self._keys, value.strip())
            return (Caller(found.name, found), "") if found else (None, WRONG_CREDENTIALS)
        if scheme.lower() == "basic":
            return self._basic(value)
        return None, NOT_AUTHENTICATED

    def _basic(self, value: str) -> tuple[Caller | None, str]:
        try:
            name, colon, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
        except (binascii.Error, ValueError):
            return None, NOT_AUTHENTICATED
        if not colon:
            return None, NOT_AUTHENTICATED
        known = self._users.get(name)
        right = hmac.compare_digest(known or digest_of(""), digest_of(password))
        return (Caller(name), "") if right and known is not None else (None, WRONG_CREDENTIALS)


class RouteScopes:
    """The scope that a request needs: from its route's ``openapi_extra={"x-scope": "admin"}``, else by its method."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        extras = ((route, getattr(route, "openapi_extra", None) or {}) for route in routes)
        self._marked = [(route, Scope(extra["x-scope"])) for route, extra in extras if "x-scope" in extra]

    def __call__(self, connection: Connection) -> Scope:
        """Return the scope that a request needs."""
        for route, scope in self._marked:
            if route.matches(connection)[0] is Match.FULL:
                return scope
        return Scope.READ if connection.get("method") in _READING else Scope.GENERATE


def require(request: Request, scope: Scope, what: str) -> None:
    """Check that the sender of ``request`` may do what needs ``scope``.

    :param what: the requested thing, as the subject of the error's sentence.
    :raises NotAllowed: the key does not allow it.
    """
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is not None and not caller.allows(scope):
        raise NotAllowed(f"{what} needs a key with the scope {scope.value!r}")


class AuthMiddleware:
    """Passes a request on when its credentials are right, its route is public, or a plugin accepts it.

    ``request.state.user`` is the caller, also on public routes when the credentials are right; plugins are not asked
    there. Wrong credentials are logged, and an address that sends many is slowed down.

    :param vouch: the plugins' ``authenticate``; None when no plugin has that hook.
    :param tickets: tickets that open the routes for which ``takes_ticket`` is true, as query parameter ``ticket``.
    :param scope_of: the scope that a request needs.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        credentials: Credentials,
        is_public: IsPublic,
        tickets: Tickets,
        takes_ticket: IsPublic,
        scope_of: Callable[[Connection], Scope],
        vouch: Vouch | None = None,
        wrong_tries: WrongTries | None = None,
    ) -> None:
        self._app = app
        self._credentials = credentials
        self._is_public = is_public
        self._tickets = tickets
        self._takes_ticket = takes_ticket
        self._scope_of = scope_of
        self._vouch = vouch
        self._wrong_tries = wrong_tries or WrongTries()

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Pass an allowed request on; answer 401, 403 or 429 to any other."""
        open_to_all = not self._credentials and self._vouch is None
        if open_to_all or scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        public = self._is_public(scope)
        caller, refusal = await self._judged(scope)
        if caller is None:
            caller = self._vouched(scope, public=public) or self._ticket_holder(scope)
        if caller is not None:
            scope.setdefault("state", {}).update(user=caller.name, caller=caller)
        if caller is not None and not public and not caller.allows(needed := self._scope_of(scope)):
            refusal = SafeJSONResponse(
                error_body("HTTPException", f"this needs a key with the scope {needed.value!r}"), 403
            )
        elif caller is not None or public:
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await refusal(scope, receive, send)

    async def _judged(self, scope: Connection) -> tuple[Caller | None, SafeJSONResponse]:
        """The caller that the request's credentials prove, and the answer to send if there is none."""
        header = Headers(scope=scope).get("authorization")
        address = (scope.get("client") or ("unknown", 0))[0]
        digest = digest_of(header or "")
        wait = await self._wrong_tries.turn(address, digest) if header else None
        if wait is not None:
            body = error_body("HTTPException", "too many wrong credentials from this address", hint="wait, then retry")
            return None, SafeJSONResponse(body, 429, {"Retry-After": str(math.ceil(wait))})
        caller, problem = self._credentials.caller_of(header)
        if caller is not None:
            self._wrong_tries.right(digest)
        elif problem == WRONG_CREDENTIALS:
            self._wrong_tries.wrong(address)
        return caller, SafeJSONResponse(error_body("HTTPException", problem), 401, {"WWW-Authenticate": "Basic"})

    def _vouched(self, scope: Connection, *, public: bool) -> Caller | None:
        if self._vouch is None or scope["type"] != "http" or public:
            return None
        name = self._vouch(Request(scope))
        return None if name is None else Caller(name)

    def _ticket_holder(self, scope: Connection) -> Caller | None:
        token = QueryParams(scope["query_string"]).get("ticket")
        opens = scope["type"] == "http" and scope["method"] == "GET" and self._takes_ticket(scope)
        name = self._tickets.user_of(token) if token and opens else None
        return None if name is None else Caller(name)
