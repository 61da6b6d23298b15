"""The built-in engine keeps the executors' contract, with one place and with several."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from latentd.engine.executor import Engine
from latentd.engine.runner import LocalRunner
from latentd.testing import HeadlessServices, check_executor


@pytest.mark.parametrize("places", [1, 3])
def test_the_engine_keeps_the_contract(make_engine: Callable[..., Engine], places: int) -> None:
    engine = make_engine(runners=[LocalRunner(f"cpu:{number}") for number in range(places)])
    check_executor(engine, HeadlessServices())
    gc.unfreeze()


class _Deaf(Engine):
    """An engine that breaks the contract: interrupt does nothing."""

    def interrupt(self) -> None:
        """Nothing."""


def test_an_executor_that_breaks_the_contract_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentd.testing.executor.PATIENCE", 0.5)
    engine = _Deaf()
    with pytest.raises((AssertionError, TimeoutError)):
        check_executor(engine, HeadlessServices())
    engine.close(10)
    gc.unfreeze()
