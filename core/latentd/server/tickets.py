"""Short-lived tickets for clients that cannot send a header, as a browser's ``EventSource``."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from latentd.errors import QueueFull

LIFETIME = 300.0
"""Seconds for which a ticket can open event streams; an open stream stays open afterwards."""
LIMIT = 1000
"""Tickets that may be valid at once."""


@dataclass(frozen=True, slots=True)
class _Ticket:
    digest: bytes
    user: str
    until: float


class Tickets:
    """The tickets of one server. Only their digests are kept, and every comparison takes the same time.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(
        self, *, lifetime: float = LIFETIME, limit: int = LIMIT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.lifetime = lifetime
        self._limit = limit
        self._clock = clock
        self._tickets: list[_Ticket] = []
        self._lock = threading.Lock()

    def issue(self, user: str) -> str:
        """A new ticket in the name of ``user``.

        :raises QueueFull: too many are valid.
        """
        token, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._tickets = [ticket for ticket in self._tickets if ticket.until > now]
            if len(self._tickets) >= self._limit:
                raise QueueFull(
                    "too many tickets are valid",
                    retry_after=int(self._tickets[0].until - now) + 1,
                    hint=f"a ticket opens any number of event streams for {self.lifetime:.0f} seconds: use it again",
                )
            self._tickets.append(_Ticket(_digest(token), user, now + self.lifetime))
        return token

    def user_of(self, token: str) -> str | None:
        """The user whose ticket ``token`` is; None if it is not valid, or no longer."""
        digest, now = _digest(token), self._clock()
        fitting = [ticket for ticket in self._tickets if hmac.compare_digest(ticket.digest, digest)]
        return next((ticket.user for ticket in fitting if ticket.until > now), None)


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", errors="surrogatepass")).digest()
