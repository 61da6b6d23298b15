"""The Makefile's choice of a torch build."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "torch_choice.py"


@pytest.fixture
def choice(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, on a Linux machine without GPU and without network."""
    spec = importlib.util.spec_from_file_location("torch_choice", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(module, "has_nvidia", lambda: False)
    monkeypatch.setattr(module, "can_reach", lambda url: False)
    return module


def test_without_a_gpu_the_cpu_index_is_added_where_it_answers(
    choice: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choice.pip_arguments("")[0] == []
    monkeypatch.setattr(choice, "can_reach", lambda url: True)
    assert choice.pip_arguments("")[0] == ["--extra-index-url", choice.CPU_INDEX]


def test_with_a_gpu_or_off_linux_pypis_build_is_taken(choice: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "can_reach", lambda url: True)
    monkeypatch.setattr(choice, "has_nvidia", lambda: True)
    assert choice.pip_arguments("")[0] == []
    monkeypatch.setattr(choice, "has_nvidia", lambda: False)
    monkeypatch.setattr(choice.platform, "system", lambda: "Darwin")
    assert choice.pip_arguments("")[0] == []


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        ("cpu", ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]),
        ("cuda", []),
        ("https://example.org/rocm", ["--extra-index-url", "https://example.org/rocm"]),
    ],
)
def test_the_user_decides(choice: ModuleType, asked: str, arguments: list[str]) -> None:
    assert choice.pip_arguments(asked)[0] == arguments


def test_an_index_that_cannot_be_asked_is_not_reached(choice: ModuleType) -> None:
    spec = importlib.util.spec_from_file_location("torch_choice_again", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    assert fresh.can_reach("http://127.0.0.1:9/nothing") is False
