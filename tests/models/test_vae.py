"""The VAE under the options and flags: NaN, memory that runs out, tiles, Hypertile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latentd.errors import LatentdError
from latentd.models.devices import DevicePolicy, is_out_of_memory
from latentd.models.files.checkpoints import CheckpointInfo
from latentd.models.loaded import LoadedModel
from latentd.models.loading.load import load_checkpoint
from latentd.models.modules.vae_tiles import VaeHypertile
from latentd.models.nans import NansError, is_nan, nan_weights
from latentd.models.vae import TILE_CELLS, VaeUse, decode, encode
from latentd.testing import tiny_models


@pytest.fixture
def model(checkpoint_folder: Path) -> LoadedModel:
    path = checkpoint_folder / "sd1.safetensors"
    return load_checkpoint(CheckpointInfo(name=path.name, filename=str(path)), DevicePolicy())


def latents(*size: int) -> Tensor:
    return torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(1))


# --- NaN -------------------------------------------------------------------------------------------------------------


def test_halves_that_overflow_give_way_to_float32_and_the_vae_stays_there(tmp_path: Path) -> None:
    weights = tiny_models.checkpoint("sd1")
    weights["first_stage_model.decoder.conv_in.weight"] *= 1e5
    path = tiny_models.write(tmp_path / "m.safetensors", weights)
    model = load_checkpoint(CheckpointInfo(name=path.name, filename=str(path)), DevicePolicy(vae_dtype="float16"))
    assert model.vae.dtype == torch.float16
    assert not decode(model, latents(4, 4)).isnan().any()
    assert model.vae.dtype == torch.float32


def _nan_in_half(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
    return out * float("nan") if out.dtype == torch.float16 else out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dtype_of_the_second_try_is_the_options(model: LoadedModel, dtype: torch.dtype) -> None:
    model.vae.half()
    model.vae.decoder.conv_in.register_forward_hook(_nan_in_half)
    assert not decode(model, latents(4, 4), VaeUse(retry=dtype)).isnan().any()
    assert model.vae.dtype == dtype


def test_without_a_second_try_nan_is_an_error_unless_nobody_checks(model: LoadedModel) -> None:
    model.vae.half()
    model.vae.decoder.conv_in.register_forward_hook(_nan_in_half)
    with pytest.raises(LatentdError, match="all NaNs was produced in VAE"):
        decode(model, latents(4, 4), VaeUse(retry=None))
    assert decode(model, latents(4, 4), VaeUse(check_nan=False)).isnan().all()


def test_latents_of_nan_are_an_error_in_any_dtype(model: LoadedModel) -> None:
    with pytest.raises(LatentdError, match="all NaNs"):
        decode(model, latents(4, 4) * float("nan"))


def test_one_picture_of_nan_beside_a_good_one_is_an_error() -> None:
    good, bad = torch.zeros(1, 4, 8, 8), torch.full((1, 4, 8, 8), float("nan"))
    assert is_nan(torch.cat([good, bad]))
    assert not is_nan(torch.cat([good, good]))
    spotted = good.clone()
    spotted[0, 0, 0, 0] = float("nan")
    assert not is_nan(spotted)


@pytest.mark.parametrize(("part", "named"), [("vae", "VAE"), ("unet", "UNet"), ("text", "text encoder 1")])
def test_the_file_is_blamed_for_weights_of_nan(model: LoadedModel, part: str, named: str) -> None:
    module = {"vae": model.vae, "unet": model.unet, "text": model.text_encoders[0]}[part]
    assert nan_weights(model) is None
    with torch.no_grad():
        next(p for p in module.parameters()).fill_(float("nan"))
    told = nan_weights(model)
    assert told is not None
    assert f"weights of the {named} in sd1.safetensors are NaN" in told


def test_pictures_that_encode_to_nan_are_an_error(model: LoadedModel) -> None:
    with torch.no_grad():
        next(iter(model.vae.encoder.parameters())).fill_(float("nan"))
    with pytest.raises(NansError, match="VAE encoder") as raised:
        encode(model, torch.rand(1, 3, 32, 32))
    assert "the file is damaged" in (raised.value.hint or "")
    assert encode(model, torch.rand(1, 3, 32, 32), check_nan=False).isnan().all()


# --- memory ----------------------------------------------------------------------------------------------------------


class SmallDevice:
    """A device whose memory holds no feature map of more than ``cells`` a side: a hook on the network's first layer."""

    def __init__(self, module: nn.Module, cells: int) -> None:
        self.cells, self.sides, self.refusals = cells, list[int](), 0
        module.register_forward_pre_hook(self)

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        side = max(args[0].shape[-2:])
        if side > self.cells:
            self.refusals += 1
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        self.sides.append(side)


def test_a_decode_without_memory_is_done_in_tiles_that_fit(model: LoadedModel) -> None:
    z = latents(40, 72)
    whole = decode(model, z)
    device = SmallDevice(model.vae.decoder.conv_in, cells=40)
    tiled = decode(model, z)
    assert device.refusals == 2  # at once, and in tiles of 64
    assert max(device.sides) == 32
    assert tiled.shape == whole.shape
    assert torch.corrcoef(torch.stack([tiled.flatten(), whole.flatten()]))[0, 1] > 0.7
    assert not model.vae.use_tiling


def test_an_encode_without_memory_is_done_in_tiles(model: LoadedModel) -> None:
    images = torch.rand(1, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    whole = encode(model, images)
    device = SmallDevice(model.vae.encoder.conv_in, cells=64)
    assert encode(model, images).shape == whole.shape
    assert device.refusals == 2
    assert max(device.sides) == 64


def test_memory_too_small_for_any_tile_is_an_error(model: LoadedModel) -> None:
    SmallDevice(model.vae.decoder.conv_in, cells=8)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        decode(model, latents(40, 40))
    assert not model.vae.use_tiling


def test_another_error_is_not_taken_for_want_of_memory(model: LoadedModel) -> None:
    def broken(module: nn.Module, args: Any) -> None:
        raise RuntimeError("broken")

    model.vae.decoder.conv_in.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="broken"):
        decode(model, latents(40, 40))


def test_lowvram_decodes_in_tiles_from_the_start(model: LoadedModel) -> None:
    model.policy = replace(model.policy, tile_vae=True)
    device = SmallDevice(model.vae.decoder.conv_in, cells=1000)
    assert decode(model, latents(70, 16)).shape == (1, 3, 140, 32)
    assert max(device.sides) == TILE_CELLS[0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("std::bad_alloc"), True),
        (MemoryError(), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_want_of_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_what_main_memory_cannot_hold_whole_is_not_tried(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that promises more than it has would end the process."""
    device = SmallDevice(model.vae.decoder.conv_in, 10_000)
    monkeypatch.setattr("latentd.models.vae.free_memory", lambda device: 1 << 30)
    assert decode(model, latents(70, 16)).shape == (1, 3, 140, 32)
    assert max(device.sides) > TILE_CELLS[0]
    monkeypatch.setattr("latentd.models.vae.free_memory", lambda device: 1 << 10)
    device.sides.clear()
    assert decode(model, latents(70, 16)).shape == (1, 3, 140, 32)
    assert max(device.sides) == TILE_CELLS[0]


def test_the_real_error_of_the_cpu_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)


# --- Hypertile -------------------------------------------------------------------------------------------------------


def tiling(side: int = 512, **changes: Any) -> VaeHypertile:
    return VaeHypertile(**{"width": side, "height": side, "max_tile": 128, "swap_size": 1, "rng": Random(1), **changes})


def test_the_decoders_attention_works_in_tiles(model: LoadedModel) -> None:
    z = latents(64, 64)
    seen: list[torch.Size] = []
    model.vae.decoder.mid_block.attentions[0].to_q.register_forward_hook(lambda m, a, out: seen.append(out.shape))
    plain = decode(model, z)
    tiled = decode(model, z, VaeUse(hypertile=tiling()))
    assert [tuple(shape[:2]) for shape in seen] == [(1, 4096), (16, 256)]
    assert tiled.shape == plain.shape
    assert not torch.equal(tiled, plain)
    assert torch.equal(decode(model, z), plain)


def test_a_picture_of_one_tile_is_as_without(model: LoadedModel) -> None:
    z = latents(16, 16)
    assert torch.equal(decode(model, z, VaeUse(hypertile=tiling(128))), decode(model, z))


def test_tiles_come_back_to_where_they_were(model: LoadedModel) -> None:
    model.vae.decoder.mid_block.attentions[0] = Passing()
    z = latents(32, 48)
    assert torch.equal(decode(model, z, VaeUse(hypertile=tiling(384))), decode(model, z))


class Passing(nn.Module):
    def forward(self, x: Tensor, **others: Any) -> Tensor:
        return x


def test_tile_counts_are_drawn_from_the_generator(model: LoadedModel) -> None:
    counts: set[int] = set()
    model.vae.decoder.mid_block.attentions[0].to_q.register_forward_hook(lambda m, a, out: counts.add(out.shape[0]))
    rng = Random(3)
    for _ in range(6):
        decode(model, latents(64, 64), VaeUse(hypertile=tiling(swap_size=3, rng=rng)))
    assert len(counts) > 1
