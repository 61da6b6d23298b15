"""A pytest fixture that starts the whole server in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from latentd.settings import parse_settings

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from latentd.plugins.host import PluginHost


class AppFactory:
    """Starts servers: ``latentd_app(plugins=[module])`` returns a client of a new one.

    :param data_dir: folder for models, options and outputs; empty at first.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.host: PluginHost | None = None
        self._open = ExitStack()

    def __call__(self, plugins: Sequence[object] = (), flags: Sequence[str] = ()) -> TestClient:
        """A client of a new server with the core and ``plugins`` only.

        :param plugins: modules or objects with hooks.
        :param flags: command-line flags, such as ``["--api-auth", "me:secret"]``.
        :raises AssertionError: the host refused one of the plugins.
        """
        from fastapi.testclient import TestClient

        from latentd.server.app import create_app

        settings = parse_settings(["--data-dir", str(self.data_dir), "--core-only", *flags], environment={})
        extra = [(getattr(plugin, "__name__", f"plugin{number}"), plugin) for number, plugin in enumerate(plugins)]
        app = create_app(settings, extra_plugins=extra)
        client = self._open.enter_context(TestClient(app, base_url="http://localhost"))
        self.host = app.state.services.host
        problems = self.host.problems()
        assert not problems, problems
        return client

    def close(self) -> None:
        """Stop every server that was started."""
        self._open.close()


@pytest.fixture
def latentd_app(tmp_path: Path) -> Iterator[AppFactory]:
    """A factory of servers that run in this process and end with the test."""
    factory = AppFactory(tmp_path)
    yield factory
    factory.close()
