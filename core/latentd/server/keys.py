"""Keys of clients, stored as hashes in a file: whose they are and what they allow."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

_NAME = re.compile(r"[\w.@-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Scope(StrEnum):
    """What a key allows."""

    READ = "read"
    """Requests that change nothing: lists, options, progress, results."""
    GENERATE = "generate"
    """Generations and other work that gives pictures or texts, and stopping it. Includes ``READ``."""
    ADMIN = "admin"
    """Everything, including options, models, training and stopping the server."""


_IMPLIED = {Scope.ADMIN: frozenset(Scope), Scope.GENERATE: frozenset({Scope.GENERATE, Scope.READ})}


@dataclass(frozen=True, slots=True)
class Key:
    """One line of a keys file. ``digest`` is the SHA-256 of the key: without a salt, since keys are long and random."""

    name: str
    scopes: frozenset[Scope]
    digest: bytes

    def allows(self, scope: Scope) -> bool:
        """Whether the key's scopes name ``scope`` or imply it."""
        return any(scope in _IMPLIED.get(own, {own}) for own in self.scopes)


def read_keys(path: Path) -> list[Key]:
    """The keys in ``path``, one on each line as ``name:scope,scope:sha256``; blank lines and ``#`` lines are skipped.

    :raises ValueError: a line is malformed, or there is no key; it names the line's number, never its content.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error.__class__.__name__}") from error
    keys: list[Key] = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        try:
            keys.append(_parsed(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    if not keys:
        raise ValueError(f"{path} holds no key; latentd new-key makes one")
    return keys


def _parsed(line: str) -> Key:
    name, _, rest = line.partition(":")
    scopes, _, digest = rest.partition(":")
    if not _NAME.fullmatch(name):
        raise ValueError("a name of letters, digits, '.', '@', '_' and '-' comes first")
    if not _DIGEST.fullmatch(digest):
        raise ValueError("64 hexadecimal digits come last")
    return Key(name, read_scopes(scopes), bytes.fromhex(digest))


def read_scopes(text: str) -> frozenset[Scope]:
    """The scopes that ``text`` names, separated by commas.

    :raises ValueError: there is none, or none of that name.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = {scope.value: scope for scope in Scope}
    if not names or any(name not in known for name in names):
        raise ValueError(f"the scopes are {', '.join(known)}, separated by commas")
    return frozenset(known[name] for name in names)


def new_key(name: str, scopes: Iterable[Scope]) -> tuple[str, str]:
    """(key, line): a new random key, and its line for a keys file.

    :raises ValueError: ``name`` cannot be a name.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 64 letters, digits, '.', '@', '_' or '-'")
    key = "sk-" + secrets.token_urlsafe(32)
    return key, f"{name}:{','.join(sorted(scopes))}:{digest_of(key).hex()}"


def digest_of(text: str) -> bytes:
    """SHA-256 of a key or password."""
    return sha256(text.encode("utf-8", errors="surrogatepass")).digest()


def find_key(keys: Iterable[Key], text: str) -> Key | None:
    """The key whose text is ``text``; every key is compared, so that the time taken reveals nothing."""
    digest = digest_of(text)
    fitting = [key for key in keys if hmac.compare_digest(key.digest, digest)]
    return fitting[0] if fitting else None
