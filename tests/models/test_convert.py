"""The key maps against diffusers' own single-file conversion."""

from __future__ import annotations

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

from latentd.models.files.state_dict import from_tensors
from latentd.models.loading.convert import clip_to_transformers, unet_to_diffusers, vae_to_diffusers
from latentd.models.loading.recognise import vae_config
from latentd.models.loading.unet_layout import read_unet_layout
from latentd.testing import tiny_models

SHAPES = {
    "sd1": tiny_models.TinyUNet(),
    "two blocks": tiny_models.TinyUNet(blocks=2, multipliers=(1, 2, 2), depths=(1, 1, 0)),
    "sdxl": tiny_models.TinyUNet(multipliers=(1, 2, 4), depths=(0, 2, 3), middle=3, linear=True, label=100),
}


@pytest.mark.parametrize("name", SHAPES)
def test_unet_names_are_those_of_diffusers(name: str) -> None:
    weights = tiny_models.unet(SHAPES[name])
    layout = read_unet_layout({k: tuple(v.shape) for k, v in weights.items()}, name)
    ours = unet_to_diffusers(from_tensors(name, weights), layout)
    config = layout.diffusers_config(heads=8) | {"class_embed_type": None}
    config.setdefault("addition_embed_type", None)
    layers = config["layers_per_block"]
    config["layers_per_block"] = layers[0]
    theirs = convert_ldm_unet_checkpoint({f"model.diffusion_model.{k}": v for k, v in weights.items()}, config)
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert len(set(layers)) == 1
    assert len(ours) == len(weights)


def test_vae_names_are_those_of_diffusers() -> None:
    weights = tiny_models.vae()
    ours = vae_to_diffusers(from_tensors("vae", weights))
    config = vae_config({k: tuple(v.shape) for k, v in weights.items()})
    assert config is not None
    assert config["block_out_channels"] == (32, 64)
    theirs = convert_ldm_vae_checkpoint({f"first_stage_model.{k}": v for k, v in weights.items()}, config)
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[k].flatten(), theirs[k].flatten()) for k in theirs)


def test_vae_in_diffusers_names_is_kept_and_old_attention_spellings_are_renewed() -> None:
    new = vae_to_diffusers(from_tensors("vae", tiny_models.vae()))
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for key in new:
        part = next((part for part in former if f".{part}." in key), None)
        old[key.replace(part, former[part]) if part else key] = new[key]
    again = vae_to_diffusers(from_tensors("vae", old))
    assert set(again) == set(new)


@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_clip_names_lose_their_prefix_and_buffer(prefix: str) -> None:
    names = set(clip_to_transformers(from_tensors("clip", tiny_models.clip(prefix=prefix))))
    assert "final_layer_norm.weight" in names
    assert not any(n.startswith("text_model.") or "position_ids" in n for n in names)
