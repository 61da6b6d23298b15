"""Downloading one file: on from where the last try stopped, tried again, and checked."""

from __future__ import annotations

import hashlib
import http.client
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from tqdm import tqdm

from latentd.cli.pull_sources import SourceFile
from latentd.errors import InvalidRequest, LatentdError, NotFound

TRIES = 5
FIRST_WAIT = 1.0
_TIMEOUT = 60.0
_PIECE = 1 << 20
#: Statuses after which a further try makes sense.
_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))


class ConnectionBroken(LatentdError):
    """The connection ended before the file did."""


def fetched(file: SourceFile, target: Path) -> Path:
    """``target`` with the whole file, which lies beside it as ``.part`` until then.

    :raises LatentdError: it cannot be fetched, or is not what the hub says it is.
    """
    if target.exists():
        return target
    if not file.url.startswith(("https://", "http://")):
        raise InvalidRequest(f"{file.name} lies at {file.url[:200]}, which is no address on the web")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for number in range(TRIES):
        try:
            _fetch(file, part)
            break
        except ConnectionBroken as error:
            if number == TRIES - 1:
                raise NotFound(error.detail, hint="the same command goes on from here") from error
            time.sleep(FIRST_WAIT * 2**number)
    _check(file, part)
    part.replace(target)
    return target


def _fetch(file: SourceFile, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    mark = part.with_name(part.name + ".etag")
    headers = {"User-Agent": "latentd", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if mark.exists():
            # Another file at the same address begins anew.
            headers["If-Range"] = mark.read_text(encoding="utf-8")
    request = urllib.request.Request(file.url, headers=headers)
    if file.token:
        # Hubs lead to stores of other hosts, which get no token.
        request.add_unredirected_header("Authorization", f"Bearer {file.token}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as reply:
            if not (have and reply.status == http.client.PARTIAL_CONTENT):
                have = 0
            _mark(mark, reply.headers)
            total = have + int(reply.headers["Content-Length"]) if reply.headers["Content-Length"] else file.size
            with part.open("ab" if have else "wb") as out:
                _copy(reply, out, file.name, have, total)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            if have == file.size:
                return
            part.unlink()
            raise ConnectionBroken("the file is another one now") from error
        where = urlsplit(file.url).hostname
        if error.code in _AGAIN:
            raise ConnectionBroken(f"{where} answers {error.code}") from error
        hint = "a token is needed: HF_TOKEN or CIVITAI_API_TOKEN" if error.code in (401, 403) else None
        raise NotFound(f"{file.name}: {where} answers {error.code}", hint=hint) from error
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionBroken(f"{file.name}: the connection broke: {type(error).__name__}") from error


def _mark(mark: Path, headers: Mapping[str, str]) -> None:
    tag = headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        mark.write_text(tag, encoding="utf-8")
    else:
        mark.unlink(missing_ok=True)


def _copy(reply: http.client.HTTPResponse, out: BinaryIO, name: str, have: int, total: int | None) -> None:
    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name, file=sys.stderr, disable=None)
    with bar:
        while piece := reply.read(_PIECE):
            out.write(piece)
            have += len(piece)
            bar.update(len(piece))
    if total is not None and have < total:
        raise ConnectionBroken(f"{name}: the connection ended after {have} of {total} bytes")


def _check(file: SourceFile, part: Path) -> None:
    """Check the file against the hub's SHA-256, or else its size; a wrong one is removed."""
    found = part.stat().st_size
    wrong = None
    if file.sha256 is not None:
        with part.open("rb") as data:
            digest = hashlib.file_digest(data, "sha256").hexdigest()
        if digest != file.sha256.lower():
            wrong = f"its SHA-256 is {digest}, and should be {file.sha256}"
    elif file.size is not None and found != file.size:
        wrong = f"it has {found} bytes, and should have {file.size}"
    part.with_name(part.name + ".etag").unlink(missing_ok=True)
    if wrong is not None:
        part.unlink()
        raise NotFound(f"{file.name} is not what it should be: {wrong}")
