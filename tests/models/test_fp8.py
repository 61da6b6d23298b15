"""Weights kept in eight bits (``fp8_storage``), with and without fp16 copies for networks (``cache_fp16_weight``)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from latentd.models.architecture import WeightStorage
from latentd.models.devices import DevicePolicy
from latentd.models.files.checkpoints import CheckpointInfo
from latentd.models.loaded import LoadedModel
from latentd.models.loading.load import load_checkpoint
from latentd.models.modules.fp8 import FP8, exact_parameter, keep_in_fp8
from latentd.models.vae import circular_padding
from latentd.types import UNetCall


def load(folder: Path, family: str, storage: WeightStorage | None = None) -> LoadedModel:
    path = folder / f"{family}.safetensors"
    return load_checkpoint(CheckpointInfo(name=path.name, filename=str(path)), DevicePolicy(), storage)


def evaluate(model: LoadedModel) -> Tensor:
    random = torch.Generator().manual_seed(1)
    call = UNetCall(
        sample=torch.randn(1, 4, 8, 8, generator=random),
        sigma=torch.ones(1),
        timestep=torch.tensor([500.0]),
        context=torch.randn(1, 77, 32, generator=random),
        added=None,
        is_cond=torch.tensor([True]),
        image_index=[0],
        step=0,
        steps=1,
        call_index=0,
        pass_name="base",
    )
    with torch.no_grad():
        return model.unet_runner.evaluate(call)


def test_linear_layers_and_convolutions_are_kept_in_eight_bits(checkpoint_folder: Path) -> None:
    whole = load(checkpoint_folder, "sd1")
    small = load(checkpoint_folder, "sd1", WeightStorage(fp8="Enable"))
    assert small.fp8
    assert not whole.fp8
    for root in (small.unet, *small.text_encoders):
        for module in root.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                assert {p.dtype for p in module.parameters()} == {FP8}
            elif isinstance(module, (nn.GroupNorm, nn.LayerNorm, nn.Embedding)):
                assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert {p.dtype for p in small.vae.parameters()} == {torch.float32}
    layers = sum(p.nbytes for p in small.unet.parameters() if p.dtype == FP8)
    assert small.nbytes() < whole.nbytes() - 2.9 * layers


def test_it_computes_what_the_whole_weights_do_but_for_rounding(checkpoint_folder: Path) -> None:
    whole = evaluate(load(checkpoint_folder, "sd1"))
    small = load(checkpoint_folder, "sd1", WeightStorage(fp8="Enable"))
    assert small.unet_runner.dtype == torch.float32
    with circular_padding(small):
        wrapped = evaluate(small)
    rounded = evaluate(small)
    assert not torch.equal(rounded, whole)
    assert not torch.equal(rounded, wrapped)
    assert torch.nn.functional.cosine_similarity(rounded.flatten(), whole.flatten(), dim=0) > 0.98


@pytest.mark.parametrize(
    ("setting", "family", "expected"),
    [("Disable", "sdxl", False), ("Enable for SDXL", "sdxl", True), ("Enable for SDXL", "sd1", False)],
)
def test_the_option_may_mean_sdxl_alone(checkpoint_folder: Path, setting: str, family: str, expected: bool) -> None:
    assert load(checkpoint_folder, family, WeightStorage(fp8=setting)).fp8 is expected


def test_text_encoders_give_nearly_the_same_states(checkpoint_folder: Path) -> None:
    ids = torch.tensor([[49406, 320, 736, *[49407] * 74]])
    states = []
    for setting in ("Disable", "Enable for SDXL"):
        encoder = load(checkpoint_folder, "sdxl", WeightStorage(fp8=setting)).text_encoders[1]
        with torch.no_grad():
            hidden = encoder.hidden_states(ids)
            states.append(torch.cat([hidden.states[-1].flatten(), encoder.pooled(hidden, ids).flatten()]))
    assert not torch.equal(*states)
    assert torch.nn.functional.cosine_similarity(*states, dim=0) > 0.98


def test_layers_used_twice_stay_one() -> None:
    layer = nn.Linear(3, 4)
    root = nn.ModuleDict({"a": layer, "b": nn.Sequential(layer)})
    keep_in_fp8([root], keep_full=False)
    assert root["a"] is root["b"][0]  # type: ignore[index]
    assert root["a"](torch.ones(1, 3)).shape == (1, 4)


def test_copies_of_fp16_are_kept_where_asked() -> None:
    layer = nn.Linear(3, 4)
    weight = layer.weight.detach().clone()
    root = nn.Sequential(layer, nn.Linear(4, 2, bias=False))
    keep_in_fp8([root], keep_full=True)
    exact = exact_parameter(root[0], "weight")
    assert exact is not None
    assert torch.equal(exact, weight.half().float())
    assert exact_parameter(root[1], "bias") is None


def test_the_manager_loads_each_form_once(tmp_path: Path, checkpoint_folder: Path) -> None:
    from latentd.models.cache import ModelCache
    from latentd.models.files.checkpoints import Checkpoints
    from latentd.models.files.hashes import HashCache
    from latentd.models.files.vae_files import VaeFiles
    from latentd.models.manager import DEFAULTS, ModelManager

    hashes = HashCache(tmp_path)
    options = dict(DEFAULTS)
    manager = ModelManager(
        Checkpoints([checkpoint_folder], hashes),
        VaeFiles([], hashes),
        cache=ModelCache(limits={"checkpoint": 3}),
        policy=DevicePolicy,
        options=options,
    )
    with manager.lease("sd1.safetensors") as whole, manager.lease("sd1.safetensors") as again:
        assert whole is again
    options["fp8_storage"] = "Enable"
    with manager.lease("sd1.safetensors") as small:
        assert small.fp8
    with manager.lease("sd1.safetensors", storage=WeightStorage()) as back:
        assert back is whole
