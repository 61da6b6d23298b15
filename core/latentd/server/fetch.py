"""Fetching a picture that a request names by URL, without letting the request reach addresses in the local network.

No HTTP client library is used: it would resolve the host name a second time, and might connect to another address than
the one that was checked.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from latentd.errors import InvalidImage, InvalidRequest, TooLarge

NOT_ALLOWED = "Request to local resource not allowed"
INVALID_URL = "Invalid image url"
TIMEOUT = 30.0
_CHUNK = 1 << 16

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    scheme: str
    host: str
    port: int
    path: str


def fetch(url: str, *, max_bytes: int, user_agent: str, forbid_local: bool, timeout: float = TIMEOUT) -> bytes:
    """The body behind an http(s) URL. This call blocks, so make it in a thread.

    The host name is resolved once, and the connection goes to the address that was checked; redirects are refused.

    :param forbid_local: require that every address of the name is public.
    :param timeout: seconds for the whole exchange.
    :raises InvalidRequest: the URL is malformed, or its host is not allowed.
    :raises InvalidImage: there is no answer, or its status is not 200.
    :raises TooLarge: the body has over ``max_bytes``.
    """
    until = time.monotonic() + timeout
    headers = {"Accept": "image/*"} | ({"User-Agent": user_agent} if user_agent else {})
    with _exchanged("GET", url, None, headers, forbid_local=forbid_local, timeout=timeout) as reply:
        if reply.status != 200:
            raise InvalidImage(INVALID_URL, hint=f"the server answered {reply.status}; redirects are not followed")
        return _body(reply, max_bytes, until)


def post_to(
    url: str, data: bytes, headers: Mapping[str, str], *, forbid_local: bool = True, timeout: float = TIMEOUT
) -> int:
    """The status with which the server behind an http(s) URL answers ``data``; its body is not read.

    As :func:`fetch`: it blocks, the address is checked once and kept to, and redirects are not followed.

    :raises InvalidRequest: the URL is malformed, or its host is not allowed.
    :raises InvalidImage: there is no answer.
    """
    with _exchanged("POST", url, data, headers, forbid_local=forbid_local, timeout=timeout) as reply:
        return reply.status


@contextlib.contextmanager
def _exchanged(
    method: str, url: str, data: bytes | None, headers: Mapping[str, str], *, forbid_local: bool, timeout: float
) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request, whose body may be read within the block."""
    target = _parse(url)
    address = _resolve(target, forbid_local)
    connection = _connect(target, address, timeout)
    # A socket timeout bounds one read only; this timer ends an exchange in which the server sends a little at a time.
    guard = threading.Timer(timeout, _shut, (connection,))
    guard.start()
    try:
        connection.request(method, target.path, data, {**headers, "Connection": "close"})
        yield connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InvalidImage(INVALID_URL, hint="the server did not answer as it should") from error
    finally:
        guard.cancel()
        connection.close()


def _parse(url: str) -> _Target:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidRequest(NOT_ALLOWED, hint="the URL is malformed") from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise InvalidRequest(NOT_ALLOWED, hint="only plain http and https URLs are fetched")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or any(character <= " " for character in path):
        raise InvalidRequest(NOT_ALLOWED, hint="the URL has characters that must be percent-encoded")
    return _Target(scheme=parts.scheme, host=host, port=port or (443 if parts.scheme == "https" else 80), path=path)


def _resolve(target: _Target, forbid_local: bool) -> str:
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise InvalidRequest(NOT_ALLOWED, hint="the host name does not resolve") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or (forbid_local and not all(is_public(address) for address in addresses)):
        raise InvalidRequest(NOT_ALLOWED, hint="the host has an address that is not public")
    return addresses[0]


def is_public(text: str) -> bool:
    """Whether ``text`` is a globally routable unicast address; of an IPv4 address in IPv6, whether the former is."""
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in ipaddress.IPv6Network("64:ff9b::/96"):
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(wrapped is not None and not _is_global(wrapped) for wrapped in inner):
            return False
    return _is_global(address)


def _is_global(address: Address) -> bool:
    return address.is_global and not address.is_multicast


def _connect(target: _Target, address: str, timeout: float) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout)
    try:
        plain = socket.create_connection((address, target.port), timeout=timeout)
        if target.scheme == "https":
            try:
                plain = ssl.create_default_context().wrap_socket(plain, server_hostname=target.host)
            except BaseException:
                plain.close()
                raise
    except (OSError, ValueError) as error:
        raise InvalidImage(INVALID_URL, hint="the server cannot be reached") from error
    connection.sock = plain
    return connection


def _shut(connection: http.client.HTTPConnection) -> None:
    sock = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _body(reply: http.client.HTTPResponse, max_bytes: int, until: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    while chunk := reply.read(_CHUNK):
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge(f"image is larger than {max_bytes} bytes")
        if time.monotonic() > until:
            raise InvalidImage(INVALID_URL, hint="the server took too long")
        parts.append(chunk)
    return b"".join(parts)
