"""Flags of devices and precision: what they decide, and that parts of a model come and go as decided."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from latentd.errors import NotConfigured
from latentd.models.devices import DevicePolicy, choose_policy, is_out_of_memory, memory_report
from latentd.models.files.checkpoints import CheckpointInfo
from latentd.models.loaded import LoadedModel
from latentd.models.loading.load import load_checkpoint


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two CUDA devices, as far as torch tells."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_cards")
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, {"device": "cuda:0", "dtype": "float16", "vae_dtype": "float16", "offload": "none"}),
        ({"device_id": "1"}, {"device": "cuda:1"}),
        ({"no_half": True}, {"dtype": "float32", "vae_dtype": "float32"}),
        ({"precision": "full"}, {"dtype": "float32"}),
        ({"precision": "half"}, {"dtype": "float16"}),
        ({"no_half_vae": True}, {"dtype": "float16", "vae_dtype": "float32"}),
        ({"dtype": "bfloat16"}, {"dtype": "bfloat16", "vae_dtype": "bfloat16"}),
        ({"medvram": True}, {"offload": "parts", "tile_vae": False}),
        ({"lowvram": True}, {"offload": "parts", "tile_vae": True}),
        ({"medvram_sdxl": True}, {"offload": "none", "offload_sdxl": True}),
        ({"upcast_sampling": True}, {"upcast_attention": True}),
        ({"use_cpu": ["all"]}, {"device": "cpu", "dtype": "float32"}),
        ({"use_cpu": ["sd"]}, {"device": "cuda:0", "cpu_parts": {"unet", "text"}}),
        ({"use_cpu": ["vae"]}, {"cpu_parts": {"vae"}}),
        ({"channels_last": True}, {"channels_last": True}),
    ],
)
def test_flags_decide(flags: dict[str, Any], expected: dict[str, Any]) -> None:
    policy = choose_policy(**flags)
    assert {name: getattr(policy, name) for name in expected} == expected


@pytest.mark.usefixtures("two_cards")
@pytest.mark.parametrize("index", ["2", "-1", "first"])
def test_a_device_that_is_not_there_is_refused(index: str) -> None:
    with pytest.raises(NotConfigured, match="--device-id"):
        choose_policy(device_id=index)


def test_an_intel_device_is_used_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "xpu", SimpleNamespace(is_available=lambda: True))
    assert choose_policy(use_ipex=True).device == "xpu"
    assert choose_policy().device != "xpu"


def test_halves_on_the_cpu_are_for_parts_of_the_cpus_own_alone() -> None:
    mixed = DevicePolicy(device="cuda:0", dtype="float16", vae_dtype="float16", cpu_parts=frozenset({"vae"}))
    assert (mixed.dtype_of("unet"), mixed.dtype_of("vae")) == (torch.float16, torch.float32)
    assert str(mixed.device_of("vae")) == "cpu"
    assert DevicePolicy(dtype="bfloat16").dtype_of("unet") == torch.bfloat16


def test_parts_are_loaded_to_main_memory_where_they_take_turns() -> None:
    policy = DevicePolicy(device="cuda:0", offload_sdxl=True)
    assert str(policy.for_family("sd1").home_of("unet")) == "cuda:0"
    assert str(policy.for_family("sdxl").home_of("unet")) == "cpu"
    assert policy.for_family("sdxl-refiner").offload == "parts"


def load(folder: Path, family: str, policy: DevicePolicy) -> LoadedModel:
    path = folder / f"{family}.safetensors"
    return load_checkpoint(CheckpointInfo(name=path.name, filename=str(path)), policy)


def test_weights_lie_channels_last(checkpoint_folder: Path) -> None:
    model = load(checkpoint_folder, "sd1", DevicePolicy(channels_last=True))
    assert model.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert model.vae.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


def test_one_part_at_a_time_is_on_the_device(checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(checkpoint_folder, "sdxl", DevicePolicy())
    places: dict[int, str] = {}
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, device: places.update({id(module): str(device)}))
    model.policy = replace(model.policy, device="cuda:0", offload="parts")

    def where() -> list[str]:
        return [places[id(module)] for module in (model.unet, model.vae, *model.text_encoders)]

    with model.part("text"):
        assert where() == ["cpu", "cpu", "cuda:0", "cuda:0"]
    with model.part("unet"):
        assert where() == ["cuda:0", "cpu", "cpu", "cpu"]
    with model.part("vae"):
        assert where() == ["cpu", "cuda:0", "cpu", "cpu"]


def test_memory_is_told_while_another_thread_imports_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    half = ModuleType("torch")
    half.__spec__ = ModuleSpec("torch", None)
    half.__spec__._initializing = True  # type: ignore[attr-defined]  # as importlib marks it
    monkeypatch.setitem(sys.modules, "torch", half)
    assert memory_report()["cuda"] == {"error": "unavailable"}
    assert not is_out_of_memory(RuntimeError("CUDA out of memory"))
