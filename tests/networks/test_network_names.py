from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from latentd.networks.names import ldm_path, site_index, split_key, targets_of

Build = Callable[..., nn.Module]

SD1 = (2, frozenset({1, 2, 3}))
SDXL = (2, frozenset({0, 1}))


@pytest.mark.parametrize(
    ("path", "ldm"),
    [
        ("conv_in", "input_blocks.0.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("down_blocks.0.resnets.1.conv1", "input_blocks.2.0.in_layers.2"),
        ("down_blocks.1.attentions.0.proj_in", "input_blocks.4.1.proj_in"),
        ("down_blocks.1.resnets.0.conv_shortcut", "input_blocks.4.0.skip_connection"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
        ("down_blocks.3.resnets.1.time_emb_proj", "input_blocks.11.0.emb_layers.1"),
        ("mid_block.resnets.1.norm2", "middle_block.2.out_layers.0"),
        ("mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0",
         "middle_block.1.transformer_blocks.0.attn2.to_out.0"),
        ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.1.conv"),
        ("up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv"),
        ("up_blocks.3.attentions.2.transformer_blocks.0.ff.net.0.proj",
         "output_blocks.11.1.transformer_blocks.0.ff.net.0.proj"),
        ("conv_norm_out", "out.0"),
    ],
)  # fmt: skip
def test_sd1_paths_in_ldm(path: str, ldm: str) -> None:
    assert ldm_path(path, *SD1) == ldm


def test_sdxl_differs_in_its_first_upsampler_and_its_label_embedding() -> None:
    assert ldm_path("up_blocks.0.upsamplers.0.conv", *SDXL) == "output_blocks.2.2.conv"
    assert ldm_path("add_embedding.linear_2", *SDXL) == "label_emb.0.2"
    deep = "attentions.0.transformer_blocks.9.attn1.to_q"
    assert ldm_path(f"up_blocks.0.{deep}", *SDXL) == "output_blocks.0.1.transformer_blocks.9.attn1.to_q"


def test_a_module_is_found_under_kohyas_diffusers_and_ldm_names(tiny_unet: Build, tiny_text_encoder: Build) -> None:
    unet = tiny_unet()
    index = site_index(targets_of(unet, [tiny_text_encoder()]))
    names = [
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
        "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q",
        "diffusion_model_input_blocks_1_1_transformer_blocks_0_attn1_to_q",
        "oft_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q",
    ]
    wanted = unet.get_submodule("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q")
    assert all(index[name].module is wanted and index[name].multiplier == "unet" for name in names)


def test_every_module_with_a_weight_has_a_name_of_its_own(tiny_unet: Build, tiny_text_encoder: Build) -> None:
    unet, encoder = tiny_unet(), tiny_text_encoder()
    index = site_index(targets_of(unet, [encoder]))
    weighted = [m for root in (unet, encoder) for m in root.modules() if getattr(m, "weight", None) is not None]
    assert {id(site.module) for site in index.values()} == {id(m) for m in weighted}


def test_text_encoders_are_te_alone_and_te1_te2_together(tiny_text_encoder: Build) -> None:
    one, two = tiny_text_encoder(), tiny_text_encoder()
    fc1 = "text_model_encoder_layers_1_mlp_fc1"
    alone = site_index(targets_of(None, [one]))
    assert alone[f"lora_te_{fc1}"].module is one.get_submodule("encoder.layers.1.mlp.fc1")
    assert alone[f"lora_te_{fc1}"].multiplier == "te"
    both = site_index(targets_of(None, [one, two]))
    assert both[f"lora_te2_{fc1}"].module is two.get_submodule("encoder.layers.1.mlp.fc1")
    assert f"lora_te_{fc1}" not in both


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("lora_unet_conv_in.lora_down.weight", ("lora_unet_conv_in", "lora_down.weight")),
        ("lora_te_x.alpha", ("lora_te_x", "alpha")),
        ("unet.down_blocks.0.attn1.to_q.lora_A.weight", ("lora_unet_down_blocks_0_attn1_to_q", "lora_down.weight")),
        ("unet.conv_in.lora_B.default.weight", ("lora_unet_conv_in", "lora_up.weight")),
        ("text_encoder.text_model.encoder.layers.0.mlp.fc1.lora.up.weight",
         ("lora_te_text_model_encoder_layers_0_mlp_fc1", "lora_up.weight")),
        ("text_encoder_2.text_model.x.lora.down.weight", ("lora_te2_text_model_x", "lora_down.weight")),
    ],
)  # fmt: skip
def test_keys_split_into_module_and_weight(key: str, parts: tuple[str, str]) -> None:
    assert split_key(key) == parts
