"""Network files and tags that do not act, or in part only: told, or refused, and never silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.pipeline.conftest import services_on
from torch import Tensor

from latentd.errors import InvalidRequest, LatentdError, ModelLoadError
from latentd.pipeline.planning.build import build_plan
from latentd.server.services import AppServices
from latentd.testing import tiny_models
from latentd.types import GenerationRequest, Result

Draw = Callable[..., Result]
Put = Callable[..., None]
UNET = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def lora(module: str, out: int = 32, into: int = 32, seed: int = 0) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        f"{module}.lora_up.weight": torch.randn(out, 2, generator=random),
        f"{module}.lora_down.weight": torch.randn(2, into, generator=random),
    }


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServices]:
    folder = tmp_path_factory.mktemp("files")
    for kind in ("models/Lora", "models/hypernetworks", "embeddings"):
        (folder / kind).mkdir(parents=True)
    for family in ("sd1", "inpainting", "sdxl", "sdxl-refiner"):
        tiny_models.write(folder / f"models/Stable-diffusion/{family}.safetensors", tiny_models.checkpoint(family))
    services = services_on(folder, checkpoint="sd1.safetensors")
    yield services
    services.close()


@pytest.fixture
def put(services: AppServices) -> Put:
    def write(name: str, content: dict[str, Tensor] | bytes, folder: str = "models/Lora") -> None:
        path = Path(services.paths.data) / folder / f"{name}.safetensors"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            save_file({key: value.contiguous() for key, value in content.items()}, path)
        services.networks.refresh()
        services.embeddings.refresh()

    return write


@pytest.fixture
def draw(services: AppServices) -> Draw:
    def run(prompt: str, checkpoint: str = "sd1", /, options: dict[str, Any] | None = None, **fields: Any) -> Result:
        overrides = {"sd_model_checkpoint": checkpoint, "emphasis": "No norm", **(options or {})}
        base: dict[str, Any] = {"steps": 1, "width": 64, "height": 64, "seed": 5, "override_settings": overrides}
        return asyncio.run(services.generate(GenerationRequest(prompt=prompt, **{**base, **fields})))

    return run


def pixels(result: Result) -> bytes:
    return np.asarray(result.images[0].image).tobytes()


TAGS = ("<lora:x:{}>", "<lora:x:1:{}>", "<lora:x:te={}>", "<lora:x:1:1:{}>", "<lyco:x:{}>", "<hypernet:x:{}>")


# --- tags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["abc", "nan", "inf", "-inf", "1e999", "", "1,5"])
@pytest.mark.parametrize("tag", TAGS)
def test_weights_that_are_no_number_are_refused_before_the_job(services: AppServices, tag: str, value: str) -> None:
    request = GenerationRequest(prompt="a cat " + tag.format(value), width=64, height=64)
    with pytest.raises(InvalidRequest) as refused:
        build_plan(request, services)
    assert repr(value) in refused.value.detail
    assert tag.format(value) in refused.value.detail


def test_a_negative_number_of_ranks_is_refused(draw: Draw) -> None:
    with pytest.raises(InvalidRequest, match="keeps -2 ranks"):
        draw("a cat <lora:x:1:1:-2>")


def test_tags_in_negative_prompts_and_of_disabled_networks_are_text(draw: Draw) -> None:
    draw("a cat", negative_prompt="<lora:x:abc>")
    draw("a cat <lora:x:abc>", disable_extra_networks=True)


def test_what_is_not_found_is_told(draw: Draw) -> None:
    told = draw("a cat <lora:nobody:1> <hypernet:nothing:1> <other:x>")
    assert told.info["warnings"] == [
        "<other:...> is a tag of no known kind; it is left out",
        "LoRA not found: nobody; it is left out",
        "hypernetwork not found: nothing; it is left out",
    ]
    assert pixels(told) == pixels(draw("a cat   "))


def test_arguments_that_do_not_act_are_told(draw: Draw, put: Put) -> None:
    put("plain", lora(UNET))
    told = draw("a cat <lora:plain:1:lbw=IN02> <lora:plain:1:1:0:9:step=3>")
    assert told.info["warnings"] == [
        "<lora:plain:1:lbw=IN02>: without effect: 'lbw=IN02'",
        "<lora:plain:1:1:0:9:step=3>: without effect: '9', 'step=3'",
    ]


def test_networks_of_options_that_are_not_found_are_told(draw: Draw) -> None:
    told = draw("a cat", options={"sd_lora": "nobody", "sd_hypernetwork": "nothing"})
    assert told.info["warnings"] == [
        "option sd_lora: 'nobody' not found; it is left out",
        "option sd_hypernetwork: 'nothing' not found; it is left out",
    ]


# --- files -----------------------------------------------------------------------------------------------------------

FLUX = {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": torch.zeros(4, 64)}
WRONG_WEIGHTS = {
    "a VAE": {"decoder.conv_in.weight": torch.zeros(2, 2), "encoder.conv_in.weight": torch.zeros(2, 2)},
    "an embedding": {"emb_params": torch.zeros(2, 32)},
    "a LoRA for FLUX": FLUX,
    "a LoRA for Stable Diffusion 3": {"lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight": torch.zeros(4, 8)},
    "a LoRA for Wan": {"diffusion_model.blocks.0.cross_attn.k.lora_A.weight": torch.zeros(4, 8)},
    "a LoRA for SD 2": {
        "lora_unet_down_blocks_9_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": torch.zeros(4, 1024)
    },
    "a ControlNet": {"control_model.input_hint_block.0.weight": torch.zeros(2, 2)},
    "a whole checkpoint": {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(2, 2)},
    "a UNet by itself": {"down_blocks.0.resnets.0.conv1.weight": torch.zeros(2, 2)},
    "an upscaler": {"conv_first.weight": torch.zeros(2, 2)},
    "a text encoder": {"text_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(2, 2)},
}
WRONG_FILES = {
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n",
    "a web page": b"\n<!DOCTYPE html><html>log in</html>",
    "a JSON text": b'{"error": "Repository not found"}',
    "an empty file": b"",
    "a zip archive": b"PK\x03\x04" + bytes(60),
    "a PNG picture": b"\x89PNG\r\n\x1a\n" + bytes(60),
}


@pytest.mark.parametrize("kind", WRONG_WEIGHTS)
def test_a_file_that_fits_nothing_is_refused_with_what_it_looks_like(draw: Draw, put: Put, kind: str) -> None:
    put("wrong", WRONG_WEIGHTS[kind])
    put("right", lora(UNET))
    with pytest.raises(InvalidRequest) as refused:
        draw("a cat <lora:right:1> <lora:wrong:1>")
    assert (
        refused.value.detail
        == f"LoRA 'wrong' (wrong.safetensors) fits nothing in sd1.safetensors; it looks like {kind}"
    )
    assert refused.value.hint is not None


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_file_of_another_kind_is_refused_before_the_job(services: AppServices, put: Put, kind: str) -> None:
    put("wrong", WRONG_FILES[kind])
    with pytest.raises(ModelLoadError, match=r"^wrong\.safetensors .*it looks like " + kind) as refused:
        build_plan(GenerationRequest(prompt="a cat <lora:wrong:1>", width=64, height=64), services)
    assert refused.value.status == 422


def test_a_file_cut_off_is_refused(draw: Draw, services: AppServices, put: Put) -> None:
    put("cut", lora(UNET))
    path = Path(services.paths.data) / "models/Lora/cut.safetensors"
    put("cut", path.read_bytes()[:-40])
    with pytest.raises(ModelLoadError, match=r"cut\.safetensors is not a readable safetensors file"):
        draw("a cat <lora:cut:1>")


def test_weights_that_are_no_number_are_refused(draw: Draw, put: Put) -> None:
    put("spoilt", {**lora(UNET), f"{UNET}.alpha": torch.tensor(float("nan"))})
    put("right", lora(UNET))
    with pytest.raises(ModelLoadError, match=r"spoilt\.safetensors.* no number"):
        draw("a cat <lora:right:1> <lora:spoilt:1>")


def test_a_network_that_fits_in_part_is_told_with_counts(draw: Draw, put: Put) -> None:
    fc1 = "text_model_encoder_layers_0_mlp_fc1"
    odd = {f"lora_te_{fc1}.some_kind": torch.zeros(2)}
    put("part", {**lora(UNET), **lora(f"lora_te2_{fc1}"), **lora("lora_unet_conv_in"), **odd})
    told = draw("a cat <lora:part:1>")
    (warning,) = told.info["warnings"]
    assert warning.startswith(
        "LoRA 'part' (part.safetensors) fits sd1.safetensors in part: 1 of 4 modules are changed; "
    )
    for reason in ("not in this model, such as lora_te2_", "of another shape here, such as lora_unet_conv_in",
                   "with weights of no known kind, such as lora_te_"):  # fmt: skip
        assert f"1 {reason}" in warning
    put("whole", lora(UNET))
    whole = draw("a cat <lora:whole:1>")
    assert "warnings" not in whole.info
    assert pixels(whole) == pixels(told) != pixels(draw("a cat "))


def test_tensors_that_are_not_read_are_told(draw: Draw, put: Put) -> None:
    put("odd", {**lora(UNET), f"{UNET}.lora_alpha": torch.tensor(1.0), f"{UNET}.bias_values": torch.zeros(2)})
    put("whole", lora(UNET))
    told = draw("a cat <lora:odd:1>")
    assert told.info["warnings"] == [
        f"LoRA 'odd' (odd.safetensors): 2 tensors of no known meaning are not read, such as {UNET}.bias_values"
    ]
    assert pixels(told) == pixels(draw("a cat <lora:whole:1>"))


def test_a_hypernetwork_that_fits_nothing_is_refused(draw: Draw, services: AppServices) -> None:
    folder = Path(services.paths.data) / "models/hypernetworks"
    layers = {"linear.0.weight": torch.ones(5, 5), "linear.0.bias": torch.ones(5)}
    torch.save({5: (layers, layers)}, folder / "narrow.pt")
    with pytest.raises(InvalidRequest, match=r"hypernetwork 'narrow' \(narrow\.pt\) fits nothing in sd1"):
        draw("a cat <hypernet:narrow:1>")
    bad = {"linear.0.weight": torch.full((32, 32), float("inf")), "linear.0.bias": torch.ones(32)}
    torch.save({32: (bad, bad)}, folder / "spoilt.pt")
    with pytest.raises(ModelLoadError, match=r"'spoilt'.* no number"):
        draw("a cat <hypernet:spoilt:1>")


# --- several models in one job ---------------------------------------------------------------------------------------

HIRES: dict[str, Any] = {"enable_hr": True, "hr_scale": 1.0, "denoising_strength": 0.5, "hr_second_pass_steps": 2}


def test_a_network_of_the_base_does_not_fail_a_hires_pass_with_the_refiner(draw: Draw, put: Put) -> None:
    put("base", lora("lora_unet_input_blocks_3_1_transformer_blocks_0_attn2_to_k", out=64, into=64))
    told = draw("a cat <lora:base:1>", "sdxl", **HIRES, hr_checkpoint_name="sdxl-refiner")
    assert any("fits nothing in sdxl-refiner.safetensors" in warning for warning in told.info["warnings"])


def test_a_network_of_the_hires_checkpoint_does_not_fail_the_first_pass(draw: Draw, put: Put) -> None:
    put("later", lora("lora_te2_text_model_encoder_layers_0_mlp_fc1", out=128))
    told = draw("a cat <lora:later:1>", "sd1", **HIRES, hr_checkpoint_name="sdxl")
    assert any("fits nothing in sd1.safetensors" in warning for warning in told.info["warnings"])
    assert pixels(told) != pixels(draw("a cat ", "sd1", **HIRES, hr_checkpoint_name="sdxl"))


def test_a_network_that_acts_in_neither_pass_is_refused(draw: Draw, put: Put) -> None:
    put("wrong", FLUX)
    with pytest.raises(InvalidRequest, match="fits nothing in sdxl"):
        draw("a cat <lora:wrong:1>", "sd1", **HIRES, hr_checkpoint_name="sdxl")


# --- AUTOMATIC1111's quirks ------------------------------------------------------------------------------------------

OPENCLIP = "text_model_encoder_layers_0_self_attn_{}"
PARTS = ("q_proj", "k_proj", "v_proj", "out_proj")


def joined(parts: tuple[str, ...], prefix: str = "lora_te2_", separator: str = "_") -> dict[str, Tensor]:
    names = {part: prefix + OPENCLIP.format(part) for part in parts}
    if separator == ".":
        names = {part: f"{prefix}text_model.encoder.layers.0.self_attn.{part}" for part in parts}
    return {key: value for n, name in enumerate(names.values()) for key, value in lora(name, seed=n).items()}


def test_part_of_an_openclip_attention_is_passed_over_and_told(draw: Draw, put: Put) -> None:
    put("qv", joined(("q_proj", "v_proj")))
    plain, told = draw("a cat ", "sdxl"), draw("a cat <lora:qv:1>", "sdxl")
    assert pixels(told) == pixels(plain)
    assert "0 of 2 modules are changed; 2 passed over as AUTOMATIC1111 does" in told.info["warnings"][0]
    free = draw("a cat <lora:qv:1>", "sdxl", options={"lora_as_automatic1111": False})
    assert "warnings" not in free.info
    assert pixels(free) != pixels(plain)


def test_a_whole_openclip_attention_and_other_spellings_act(draw: Draw, put: Put) -> None:
    put("whole", joined(PARTS))
    put("dotted", joined(("q_proj", "v_proj"), "text_encoder_2.", "."))
    plain = draw("a cat ", "sdxl")
    for name in ("whole", "dotted"):
        acting = draw(f"a cat <lora:{name}:1>", "sdxl")
        assert "warnings" not in acting.info
        assert pixels(acting) != pixels(plain)


# --- embeddings that come along --------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [("emb_params",), ("clip_l",), ("string_to_param.*",)])
def test_a_bundled_embedding_is_its_word_while_the_tag_is_there(draw: Draw, put: Put, keys: tuple[str, ...]) -> None:
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(3))
    put("known", {"emb_params": vectors}, folder="embeddings")
    put("plain", lora(UNET))
    put("bundle", {**lora(UNET), **{f"bundle_emb.zqx.word.{key}": vectors for key in keys}})
    wanted = pixels(draw("a cat , known <lora:plain:1>"))
    for _ in range(2):
        told = draw("a cat , zqx.word <lora:bundle:1>")
        assert pixels(told) == wanted
        assert "warnings" not in told.info
        assert pixels(draw("a cat , zqx.word <lora:plain:1>")) != wanted


def test_a_bundle_without_matrices_acts(draw: Draw, put: Put) -> None:
    put("words", {"bundle_emb.zqx.emb_params": torch.ones(1, 32)})
    told = draw("a cat , zqx <lora:words:1>")
    assert "warnings" not in told.info
    assert pixels(told) != pixels(draw("a cat , zqx "))


def test_bundled_embeddings_that_do_not_act_are_told(draw: Draw, put: Put) -> None:
    put("taken", {"emb_params": torch.ones(1, 32)}, folder="embeddings")
    bundle = {"taken": torch.zeros(1, 32), "wide": torch.zeros(1, 48), "odd": torch.zeros(1, 2, 3)}
    put("mixed", {**lora(UNET), **{f"bundle_emb.{name}.emb_params": value for name, value in bundle.items()}})
    told = draw("a cat , taken <lora:mixed:1>")
    warnings = sorted(told.info["warnings"])
    assert [w.partition(" is left out: ")[0] for w in warnings] == [
        f"embedding {name!r} of LoRA 'mixed'" for name in ("odd", "taken", "wide")
    ]
    assert "it has width 48, the model's text encoders 32" in warnings[2]


def test_both_encoders_of_sdxl_take_their_part_of_a_bundle(draw: Draw, put: Put) -> None:
    parts = {
        part: torch.randn(2, 32, generator=torch.Generator().manual_seed(n))
        for n, part in enumerate(("clip_l", "clip_g"))
    }
    put("known2", parts, folder="embeddings")
    put("bundle2", {f"bundle_emb.zqx.{part}": value for part, value in parts.items()})
    assert pixels(draw("a cat , zqx <lora:bundle2:1>", "sdxl")) == pixels(draw("a cat , known2 ", "sdxl"))


def test_an_error_names_its_file_whatever_else_is_there(draw: Draw, put: Put) -> None:
    put("one", lora(UNET))
    put("two", WRONG_FILES["a web page"])
    with pytest.raises(LatentdError, match=r"two\.safetensors"):
        draw("a cat <lora:one:1> <lora:two:1> <lora:three:1>")
