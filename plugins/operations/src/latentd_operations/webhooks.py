"""Webhooks: receivers are told of every job's end, signed, retried with exponential back-off, in a bounded queue."""

from __future__ import annotations

import hashlib
import heapq
import hmac
import itertools
import json
import logging
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from latentd.api import InvalidRequest, JsonValue, LatentdError, Services, post_to
from latentd_operations.timelines import ENDS

log = logging.getLogger(__name__)

OUTCOMES = ("delivered", "retried", "refused", "given up", "dropped")
"""What becomes of a try: delivered; to be retried; refused for good (4xx, or a host that is not allowed); given up
after the last try; dropped from the queue for a newer delivery."""
SECRET = "LATENTD_WEBHOOK_SECRET"
"""The environment's variable with the key of signatures; without it there are none."""
MOST_WAITING = 1000
"""Most deliveries that wait; for one more, the oldest is dropped."""
TRIES = 12
"""Tries in all, about 8 minutes with the waits between them."""
#: Seconds before the second try, which double with each further one, and the most that they become.
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
#: Seconds that one try may take.
TIMEOUT = 10.0
_THREADS = 4
#: Seconds that the server's end waits for deliveries.
_CLOSING = 5.0
#: Statuses after which trying again makes sense beside 5xx: timeout, too early, too many.
_AGAIN = frozenset((408, 425, 429))

Payload = tuple[bytes, str]
"""A body and its content type."""


@dataclass(slots=True, kw_only=True)
class Delivery:
    """One end of a job on its way to one receiver.

    :param make: makes the payload, once, on the thread that delivers.
    """

    url: str
    job_id: str
    event: str
    make: Callable[[], Payload]
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    tries: int = 0
    payload: Payload | None = None


class Webhooks:
    """The deliveries of one server, made by threads of their own."""

    def __init__(self, services: Services, *, secret: str | None = None) -> None:
        self.services = services
        self._secret = os.environ.get(SECRET, "") if secret is None else secret
        self.outcomes: Counter[str] = Counter()
        self._waiting: list[tuple[float, int, Delivery]] = []
        self._in_flight = 0
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="webhooks")

    def __len__(self) -> int:
        with self._changed:
            return len(self._waiting) + self._in_flight

    # --- what goes out -----------------------------------------------------------------------------------------------

    def job_event(self, job_id: str, event: str, data: Mapping[str, JsonValue], callback: Delivery | None) -> None:
        """Queue what receivers are to be told of; ``callback`` is the receiver that the job's own request named."""
        if event not in ENDS:
            return
        if callback is not None:
            callback.event = event
            self._put(callback)
        for url in filter(None, (part.strip() for part in str(self.services.options["webhook_urls"]).split(","))):
            document = {"event": event, "job": dict(data)}
            self._put(Delivery(url=url, job_id=job_id, event=event, make=lambda said=document: _json(said)))  # type: ignore[misc]

    def check(self, url: str) -> None:
        """Check that a request may name ``url`` as its receiver.

        :raises InvalidRequest: it is no http(s) URL, or its host is not on the list.
        """
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").lower().rstrip(".")
        except ValueError:
            host = ""
        if not host or parts.scheme not in ("http", "https"):
            raise InvalidRequest("callback_url is not an http or https URL")
        allowed = [name.strip().lower() for name in str(self.services.options["webhook_hosts"]).split(",")]
        if not any(host == name.lstrip(".") or (name[:1] == "." and host.endswith(name)) for name in allowed if name):
            raise InvalidRequest(
                f"callback_url: host {host[:100]!r} is not allowed", hint="the operator lists hosts in webhook_hosts"
            )

    # --- delivering --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def close(self) -> None:
        """Deliver what can be delivered within some seconds, then stop; the log names what is left."""
        until = time.monotonic() + _CLOSING
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while (self._waiting or self._in_flight) and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            lost = [delivery for _, _, delivery in self._waiting]
            self._waiting = []
            self._changed.notify_all()
        for delivery in lost:
            log.warning("%s: the webhook to %s was not delivered before the end", delivery.job_id, _shown(delivery.url))
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _put(self, delivery: Delivery, wait: float = 0.0) -> None:
        dropped = None
        with self._changed:
            heapq.heappush(self._waiting, (time.monotonic() + wait, next(self._numbers), delivery))
            if len(self._waiting) > MOST_WAITING:
                dropped = min(self._waiting, key=lambda entry: entry[1])
                self._waiting.remove(dropped)
                heapq.heapify(self._waiting)
            self._changed.notify_all()
        if dropped is not None:
            self._outcome(dropped[2], "dropped", f"more than {MOST_WAITING} wait")

    def _run(self) -> None:
        while (delivery := self._next()) is not None:
            self._pool.submit(self._deliver, delivery)

    def _next(self) -> Delivery | None:
        """The delivery that is due next, once it is; None at the end."""
        with self._changed:
            while True:
                if self._closing and not self._waiting and not self._in_flight:
                    return None
                now = time.monotonic()
                # At the end nothing waits for its time.
                if self._waiting and (self._closing or self._waiting[0][0] <= now) and self._in_flight < _THREADS:
                    self._in_flight += 1
                    return heapq.heappop(self._waiting)[2]
                self._changed.wait(max(self._waiting[0][0] - now, 0.01) if self._waiting else None)

    def _deliver(self, delivery: Delivery) -> None:
        again = False
        try:
            again = self._tried(delivery)
        except Exception:
            log.exception("%s: the webhook to %s failed", delivery.job_id, _shown(delivery.url))
        finally:
            if again and not self._closing:
                self._put(delivery, min(FIRST_WAIT * 2 ** (delivery.tries - 1), LONGEST_WAIT))
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def _tried(self, delivery: Delivery) -> bool:
        """Whether to try again."""
        delivery.tries += 1
        delivery.payload = delivery.payload or delivery.make()
        body, kind = delivery.payload
        try:
            private = bool(self.services.options["webhook_private"])
            headers = self._headers(delivery, body, kind)
            status = post_to(delivery.url, body, headers, forbid_local=not private, timeout=TIMEOUT)
        except LatentdError as error:
            if str(error.detail).endswith("not allowed"):
                return self._outcome(delivery, "refused", f"{error.detail} ({error.hint})")
            return self._failed(delivery, str(error.hint))
        if 200 <= status < 300:
            return self._outcome(delivery, "delivered", "")
        if status >= 500 or status in _AGAIN:
            return self._failed(delivery, f"status {status}")
        return self._outcome(delivery, "refused", f"status {status}")

    def _failed(self, delivery: Delivery, why: str) -> bool:
        last = delivery.tries >= TRIES
        self._outcome(delivery, "given up" if last else "retried", why)
        return not last

    def _outcome(self, delivery: Delivery, outcome: str, why: str) -> bool:
        self.outcomes[outcome] += 1
        level = logging.DEBUG if outcome in ("delivered", "retried") else logging.WARNING
        log.log(
            level, "%s: webhook to %s %s%s", delivery.job_id, _shown(delivery.url), outcome, f": {why}" if why else ""
        )
        return False

    def _headers(self, delivery: Delivery, body: bytes, kind: str) -> dict[str, str]:
        headers = {
            "Content-Type": kind,
            "User-Agent": "latentd",
            "X-Latentd-Delivery": delivery.id,
            "X-Latentd-Event": delivery.event,
        }
        if self._secret:
            stamp = str(int(time.time()))
            headers |= {"X-Latentd-Timestamp": stamp, "X-Latentd-Signature": signature(self._secret, stamp, body)}
        return headers


def signature(secret: str, stamp: str, body: bytes) -> str:
    """``sha256=`` and the HMAC of the time stamp, a dot and the body, in hexadecimal."""
    return "sha256=" + hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _json(document: Mapping[str, JsonValue]) -> Payload:
    return json.dumps(document, default=repr).encode(), "application/json"


def _shown(url: str) -> str:
    """The receiver without the secrets that its path or query may have."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port}" if parts.port else f"{parts.scheme}://{parts.hostname}"
