"""A delay for clients that try many credentials; clients with the right ones are not delayed."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

log = logging.getLogger("latentd.api")

FREE_TRIES = 5
"""Wrong tries of one address that are answered at once."""
INTERVAL = 1.0
"""Seconds between further tries."""
MOST_WAITING = 8
"""Tries of one address that may wait at once; further ones are refused without a look at their credentials."""
FORGOTTEN_AFTER = 300.0
"""Seconds without a wrong try after which the earlier tries of an address no longer count."""
ADDRESSES = 4096
RIGHT_ONES = 1024


@dataclass(slots=True)
class _Tries:
    wrong: int = 0
    last: float = 0.0
    next: float = 0.0


class WrongTries:
    """Counts wrong credentials by address (of IPv6, by network of 64 bits) and delays further ones.

    Credentials that were right once are never delayed: behind a proxy, all clients have one address.

    :param clock: a monotonic clock, in seconds.
    :param sleep: waits for the given seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        self._right: OrderedDict[bytes, None] = OrderedDict()

    async def turn(self, address: str, digest: bytes) -> float | None:
        """Wait if needed, then return None: the credentials may be checked. Or return the seconds after which to retry.

        :param digest: of the whole ``Authorization`` header.
        """
        if digest in self._right:
            return None
        tries, now = self._tries.get(_network(address)), self._clock()
        if tries is None or tries.wrong < FREE_TRIES or now - tries.last > FORGOTTEN_AFTER:
            return None
        wait = max(tries.next - now, 0.0)
        if wait > MOST_WAITING * INTERVAL:
            return wait
        tries.next = now + wait + INTERVAL
        await self._sleep(wait)
        return None

    def right(self, digest: bytes) -> None:
        """Note that the credentials with ``digest`` were right."""
        self._right[digest] = None
        self._right.move_to_end(digest)
        if len(self._right) > RIGHT_ONES:
            self._right.popitem(last=False)

    def wrong(self, address: str) -> None:
        """Note that credentials from ``address`` were wrong."""
        key, now = _network(address), self._clock()
        tries = self._tries.setdefault(key, _Tries())
        if now - tries.last > FORGOTTEN_AFTER:
            tries.wrong = 0
        tries.wrong, tries.last = tries.wrong + 1, now
        self._tries.move_to_end(key)
        if len(self._tries) > ADDRESSES:
            self._tries.popitem(last=False)
        log.warning("wrong credentials from %s, try %d", key, tries.wrong)


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if found.version == 6:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
