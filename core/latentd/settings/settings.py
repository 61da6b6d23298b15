"""The settings of one process: every flag, typed, with AUTOMATIC1111's names and defaults."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

from latentd.settings.file_flags import FileFlags
from latentd.settings.flag import default_of, flag_of
from latentd.settings.inert_flags import InertFlags
from latentd.settings.model_flags import ModelFlags
from latentd.settings.paths import Paths
from latentd.settings.plugin_flags import PluginFlags
from latentd.settings.ray_flags import RayFlags
from latentd.settings.server_flags import ServerFlags

UI_PORT = 7860
API_ONLY_PORT = 7861
LOOPBACK = "127.0.0.1"
EVERY_INTERFACE = "0.0.0.0"
_MEGAPIXEL = 1_000_000


# The order of the bases is the order of the groups in `latentd serve --help`, last base first.
@dataclass(frozen=True, kw_only=True)
class Settings(InertFlags, RayFlags, PluginFlags, ModelFlags, FileFlags, ServerFlags):
    """Every flag as an attribute.

    ``Settings()`` has the defaults; :func:`latentd.settings.parse_settings` reads the command line and the environment.
    """

    @cached_property
    def paths(self) -> Paths:
        """The configured folders, absolute."""
        return Paths.from_settings(self)

    @property
    def bind_host(self) -> str:
        """The address to listen on: ``--server-name``, else every interface with ``--listen``, else loopback."""
        if self.server_name:
            return self.server_name
        return EVERY_INTERFACE if self.listen else LOOPBACK

    @property
    def bind_port(self) -> int:
        """The port to listen on."""
        if self.port is not None:
            return self.port
        return API_ONLY_PORT if self.nowebui else UI_PORT

    @property
    def max_pixels(self) -> int:
        """Pixels of the largest picture that is accepted or generated: ``--max-image-mp``."""
        return int(self.max_image_mp * _MEGAPIXEL)

    @property
    def max_batch_pixels(self) -> int:
        """Pixels of the pictures of one batch together, or given for one generation: ``--max-batch-mp``."""
        return int(self.max_batch_mp * _MEGAPIXEL)

    @property
    def max_total_pixels(self) -> int:
        """Pixels of all the pictures that one request generates, or gives to extras: ``--max-total-mp``."""
        return int(self.max_total_mp * _MEGAPIXEL)

    @property
    def users(self) -> dict[str, str]:
        """User names to passwords of ``--api-auth``.

        :raises ValueError: the flag is given but names no user, an entry is not ``user:password``, a password has a
            colon, or a user has two passwords. A server that was meant to be protected must not start unprotected.
        """
        users: dict[str, str] = {}
        if self.api_auth is None:
            return users
        for entry in self.api_auth.split(","):
            name, *passwords = entry.strip().split(":")
            if not name or len(passwords) != 1 or not passwords[0]:
                raise ValueError("--api-auth wants user:password, several separated by commas; no colon in a password")
            if users.setdefault(name, passwords[0]) != passwords[0]:
                raise ValueError(f"--api-auth gives user {name!r} two passwords")
        return users

    @property
    def is_open_to_all(self) -> bool:
        """Whether other machines can reach the server without credentials."""
        loopback = self.bind_host in (LOOPBACK, "localhost", "::1")
        return not loopback and not self.api_auth and not self.api_key and self.api_keys_file is None

    def given(self) -> list[str]:
        """Names of the flags whose value differs from the default, in order of declaration."""
        return [f.name for f in fields(self) if getattr(self, f.name) != default_of(f)]

    def without_effect(self) -> list[str]:
        """Command-line spellings of the given flags that have no effect in latentd; they are logged at start."""
        inert = {f.name for f in fields(self) if not flag_of(f).acts}
        return ["--" + name.replace("_", "-") for name in self.given() if name in inert and name != "f"]
