"""Tiles of self-attention: where they are cut, that they come back in place, and what the infotext says."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from latentd.networks.hypertile import Hypertile, hypertile_notes
from latentd.types import AttentionSite

OPTIONS = {
    "hypertile_enable_unet": False,
    "hypertile_enable_unet_secondpass": False,
    "hypertile_max_depth_unet": 3,
    "hypertile_max_tile_unet": 256,
    "hypertile_swap_size_unet": 3,
    "hypertile_enable_vae": False,
    "hypertile_max_depth_vae": 3,
    "hypertile_max_tile_vae": 128,
    "hypertile_swap_size_vae": 3,
}


def _site(block: str = "input_blocks.1", layer: int = 0, kind: Any = "self") -> AttentionSite:
    name = f"somewhere.transformer_blocks.{layer}.attn1"
    return AttentionSite(name=name, kind=kind, block=block, index=0, width=4, heads=1)


def _hook(**changes: Any) -> Hypertile:
    fields: dict[str, Any] = {"width": 256, "height": 256, "max_tile": 128, "swap_size": 1, "max_depth": 3}
    return Hypertile(**{**fields, "sdxl": False, "rng": Random(1), **changes})


def _run(hook: Hypertile, hidden: Tensor, site: AttentionSite | None = None) -> tuple[Tensor, list[Tensor]]:
    """The handler's answer with attention that averages, and what the attention was given."""
    seen: list[Tensor] = []

    def attend(x: Tensor, context: Tensor | None, values: Tensor | None = None) -> Tensor:
        seen.append(x)
        return x.mean(dim=1, keepdim=True).expand_as(x)

    handler = hook.attention(site or _site())
    assert handler is not None
    return handler(SimpleNamespace(), hidden, None, attend), seen  # type: ignore[arg-type]


def test_a_picture_of_four_tiles_is_averaged_tile_by_tile() -> None:
    quarters = torch.zeros(32, 32)
    quarters[:16, 16:], quarters[16:, :16], quarters[16:, 16:] = 1.0, 2.0, 3.0
    out, seen = _run(_hook(), quarters.reshape(1, -1, 1))
    assert seen[0].shape == (4, 256, 1)
    assert torch.equal(out.reshape(32, 32), quarters)


def test_a_picture_no_larger_than_a_tile_is_attended_whole() -> None:
    hidden = torch.randn(2, 256, 4, generator=torch.Generator().manual_seed(1))
    _, seen = _run(_hook(width=128, height=128), hidden)
    assert seen[0] is hidden


def test_the_number_of_tiles_follows_the_seed() -> None:
    hidden = torch.zeros(1, 64 * 64, 1)

    def tiles(seed: int) -> list[int]:
        hook = _hook(width=512, height=512, swap_size=3, rng=Random(seed))
        return [_run(hook, hidden)[1][0].shape[0] for _ in range(8)]

    assert tiles(5) == tiles(5)
    assert len(set(tiles(5))) > 1


@pytest.mark.parametrize(
    ("site", "depth", "tiled"),
    [
        (_site("input_blocks.1"), 0, True),
        (_site("output_blocks.8"), 0, False),
        (_site("output_blocks.8"), 1, True),
        (_site("middle_block"), 2, False),
        (_site("middle_block"), 3, True),
        (_site("input_blocks.1", kind="cross"), 3, False),
    ],
)
def test_depth_says_which_levels_are_tiled(site: AttentionSite, depth: int, tiled: bool) -> None:
    assert (_hook(max_depth=depth).attention(site) is not None) is tiled


def test_sdxl_counts_the_further_layers_of_a_block_as_deeper() -> None:
    hook = _hook(max_depth=0, sdxl=True)
    assert hook.attention(_site("input_blocks.4", 0)) is not None
    assert hook.attention(_site("input_blocks.4", 1)) is None


def test_infotext_says_what_differs_from_the_defaults() -> None:
    assert hypertile_notes(OPTIONS, second_pass=True) == {}
    notes = hypertile_notes(
        {**OPTIONS, "hypertile_enable_unet": True, "hypertile_max_tile_unet": 128}, second_pass=False
    )
    assert {key: value for key, value in notes.items() if value is not None} == {
        "Hypertile U-Net": True,
        "Hypertile U-Net max tile size": 128,
    }
    second = {**OPTIONS, "hypertile_enable_unet_secondpass": True}
    assert hypertile_notes(second, second_pass=False) == {}
    assert hypertile_notes(second, second_pass=True)["Hypertile U-Net second pass"] is True
    vae = hypertile_notes({**OPTIONS, "hypertile_enable_vae": True, "hypertile_swap_size_vae": 1}, second_pass=False)
    assert {key: value for key, value in vae.items() if value is not None} == {
        "Hypertile VAE": True,
        "Hypertile VAE swap size": 1,
    }
