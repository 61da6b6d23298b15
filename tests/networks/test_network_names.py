from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from latentd.networks.names import Site, SiteIndex, ldm_path, targets_of
from latentd.networks.spellings import canonical, module_name

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


def found(index: SiteIndex, spelling: str) -> Site | None:
    sites = index.find(module_name(spelling))
    assert len(sites) < 2
    return sites[0] if sites else None


def test_a_module_is_found_under_diffusers_and_ldm_paths(tiny_unet: Build, tiny_text_encoder: Build) -> None:
    unet = tiny_unet()
    index = SiteIndex(targets_of(unet, [tiny_text_encoder()]))
    wanted = unet.get_submodule("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0")
    for path in ("down_blocks.0.attentions.0", "input_blocks.1.1"):
        for part in ("attn1.to_out.0", "attn1.processor.to_out"):
            for prefix in ("unet.", "", "diffusion_model."):
                site = found(index, f"{prefix}{path}.transformer_blocks.0.{part}")
                assert site is not None
                assert (site.module, site.multiplier) == (wanted, "unet")


def test_every_module_with_a_weight_has_a_name_of_its_own(tiny_unet: Build, tiny_text_encoder: Build) -> None:
    unet, encoder = tiny_unet(), tiny_text_encoder()
    index = SiteIndex(targets_of(unet, [encoder]))
    for root, prefix in ((unet, "lora_unet_"), (encoder, "lora_te_text_model_")):
        for path, module in root.named_modules():
            if getattr(module, "weight", None) is not None:
                site = found(index, prefix + path.removeprefix("text_model.").replace(".", "_"))
                assert site is not None
                assert site.module is module


FC1 = "text_model_encoder_layers_1_mlp_fc1"


@pytest.mark.parametrize(
    ("prefix", "alone", "first", "second"),
    [
        ("lora_te", 0, None, None),
        ("lora_te1", 0, 0, None),
        ("lora_te2", None, None, 1),
        ("text_encoder", 0, 0, None),
        ("text_encoder_2", None, None, 1),
        ("clip_l", 0, 0, None),
        ("clip_g", None, None, 1),
        ("clip_l.transformer", 0, 0, None),
        ("clip_g.transformer", None, None, 1),
        ("text_encoders.clip_l.transformer", 0, 0, None),
        ("conditioner.embedders.0.model", 0, None, None),
    ],
)
def test_whose_text_encoder_a_name_means(
    tiny_text_encoder: Build, prefix: str, alone: int | None, first: int | None, second: int | None
) -> None:
    encoders = [tiny_text_encoder(), tiny_text_encoder()]
    modules = [encoder.get_submodule("encoder.layers.1.mlp.fc1") for encoder in encoders]
    site = found(SiteIndex(targets_of(None, encoders[:1])), f"{prefix}_{FC1}")
    assert (site and site.module) is (None if alone is None else modules[alone])
    site = found(SiteIndex(targets_of(None, encoders)), f"{prefix}_{FC1}")
    wanted = first if first is not None else second
    assert (site and site.module) is (None if wanted is None else modules[wanted])
    assert site is None or site.multiplier == "te"


def test_a_name_that_says_not_whose_it_is_may_mean_either_encoder(tiny_text_encoder: Build) -> None:
    encoders = [tiny_text_encoder(), tiny_text_encoder()]
    sites = SiteIndex(targets_of(None, encoders)).find(
        module_name("base_model.model.text_model.encoder.layers.1.mlp.fc1")
    )
    assert [site.module for site in sites] == [e.get_submodule("encoder.layers.1.mlp.fc1") for e in encoders]


@pytest.mark.parametrize(("kohya", "dropped"), [(True, True), (False, False)])
def test_the_upsampler_that_automatic1111_misses(kohya: bool, dropped: bool) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=12,
            attention_head_dim=2,
            norm_num_groups=4,
        )
    index = SiteIndex(targets_of(unet, []))
    name = module_name("lora_unet_up_blocks_0_upsamplers_0_conv" if kohya else "unet.up_blocks.0.upsamplers.0.conv")
    assert index.find(name)[0].module is unet.get_submodule("up_blocks.0.upsamplers.0.conv")
    assert index.is_dropped(name) is dropped
    assert not index.is_dropped(module_name("lora_unet_output_blocks_2_2_conv"))


PATH = "mid_block_attentions_0_proj_in"


@pytest.mark.parametrize(
    ("key", "owner", "path", "parameter"),
    [
        (f"lora_unet_{PATH}.lora_mid.weight", "unet", PATH, "lora_mid.weight"),
        (f"lora_unet_{PATH}.hada_w1_a", "unet", PATH, "hada_w1_a"),
        (f"lycoris_{PATH}.lokr_w2_b", "any", PATH, "lokr_w2_b"),
        ("unet.mid_block.attentions.0.proj_in.lokr_t2", "unet", PATH, "lokr_t2"),
        ("unet.mid_block.attentions.0.proj_in.hada_t1.default", "unet", PATH, "hada_t1"),
        (f"oft_unet_{PATH}.oft_blocks", "unet", PATH, "oft_blocks"),
        (f"lora_unet_{PATH}.a1.weight", "unet", PATH, "a1.weight"),
        (f"lora_unet_{PATH}.oft_R.weight", "unet", PATH, "oft_R.weight"),
        ("unet.mid_block.attentions.0.proj_in.oft_R.default.weight", "unet", PATH, "oft_R.weight"),
        ("unet.mid_block.attentions.0.proj_in.oft_R.scaled_oft", "unet", PATH, "oft_R.scaled_oft"),
        (f"lora_unet_{PATH}.weight", "unet", PATH, "weight"),
        ("diffusion_model.mid_block.attentions.0.proj_in.diff_b", "unet", PATH, "diff_b"),
        (f"lora_unet_{PATH}.w_norm", "unet", PATH, "w_norm"),
        ("unet.mid_block.attentions.0.proj_in.lora_A", "unet", PATH, "lora_down.weight"),
        ("unet.mid_block.attentions.0.proj_in.lora_B.bias", "unet", PATH, "lora_up.bias"),
        ("unet.mid_block.attentions.0.proj_in.lora_B.style.bias", "unet", PATH, "lora_up.bias"),
        ("unet.mid_block.attentions.0.proj_in.lora_magnitude_vector.weight", "unet", PATH, "magnitude"),
        ("unet.mid_block.attentions.0.proj_in.lora_embedding_A", "unet", PATH, "lora_embedding_A"),
        ("lora_te2_text_projection.alpha", "te2", "text_projection", "alpha"),
        ("base_model.model.text_model.encoder.layers.0.mlp.fc1.lora_A.weight", "any", "encoder_layers_0_mlp_fc1",
         "lora_down.weight"),
        ("vae", "any", "vae", ""),
    ],
)  # fmt: skip
def test_keys_say_whose_module_and_which_parameter(key: str, owner: str, path: str, parameter: str) -> None:
    name = canonical(key)
    assert (name.module.owner, name.module.path, name.parameter) == (owner, path, parameter)
