"""Files that are not what their name says are told by what they look like, whoever reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentd.errors import ModelLoadError
from latentd.models.devices import choose_policy
from latentd.models.files.file_kinds import looks_like, weights_kind
from latentd.models.files.state_dict import from_tensors, open_state_dict
from latentd.models.files.unpickle import load_pickle
from latentd.models.loading.build import standalone_vae
from latentd.models.loading.recognise import recognise
from latentd.testing import tiny_models

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n"
BEGINNINGS = {
    "a Git LFS pointer": POINTER,
    "a web page": b"\xef\xbb\xbf  <!doctype HTML>\n<title>Sign in</title>",
    "an XML document": b"<?xml version='1.0'?><Error>NoSuchKey</Error>",
    "a JSON text": b'{"message": "Not Found"}',
    "a JPEG picture": b"\xff\xd8\xff\xe0" + bytes(20),
    "a GGUF file": b"GGUF" + bytes(20),
    "a RAR archive": b"Rar!\x1a\x07" + bytes(20),
    "an empty file": b"",
}
READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": open_state_dict,
    ".pt": load_pickle,
    ".ckpt": open_state_dict,
}


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("kind", BEGINNINGS)
def test_first_bytes_tell(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"wrong{suffix}"
    path.write_bytes(BEGINNINGS[kind])
    with pytest.raises(ModelLoadError, match=rf"^wrong\{suffix} .*: it looks like {kind}"):
        READERS[suffix](path)


def test_what_tells_nothing_keeps_the_readers_words(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(bytes(range(64)))
    with pytest.raises(
        ModelLoadError, match=r"^odd\.safetensors is not a readable safetensors file: (?!it looks like)"
    ):
        open_state_dict(path)


def shapes(weights: tiny_models.Weights) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in weights.items()}


@pytest.mark.parametrize(
    ("weights", "kind"),
    [
        (tiny_models.checkpoint("sdxl"), "a whole checkpoint"),
        (tiny_models.vae(), "a VAE"),
        (tiny_models.unet(tiny_models.TinyUNet()), "a UNet by itself"),
        (tiny_models.clip(), "a text encoder"),
        (tiny_models.openclip(), "a text encoder"),
    ],
)
def test_names_of_weights_tell(weights: tiny_models.Weights, kind: str) -> None:
    assert weights_kind(shapes(weights)) == kind


@pytest.mark.parametrize(
    ("key", "shape", "kind"),
    [
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight", (4, 768), "SD 1"),
        ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight", (4, 1024), "SD 2"),
        ("unet.input_blocks.4.1.transformer_blocks.0.attn2.to_k.lora_down.weight", (4, 2048), "SDXL"),
        ("clip_g.text_model.encoder.layers.0.mlp.fc1.lora_down.weight", (4, 1280), "SDXL"),
        ("lora_unet_double_blocks_0_img_attn_proj.lora_down.weight", (4, 3072), "FLUX"),
        ("transformer.transformer_blocks.0.attn.add_q_proj.lora_A.weight", (4, 1536), "Stable Diffusion 3"),
    ],
)
def test_whose_a_lora_is(key: str, shape: tuple[int, ...], kind: str) -> None:
    assert weights_kind({key: shape}) == f"a LoRA for {kind}"
    assert weights_kind({"anything.lora_down.weight": (4, 8)}) == "a LoRA"
    assert weights_kind({"anything": (4, 8)}) is None


def test_a_file_in_the_wrong_folder_is_told_where_it_belongs() -> None:
    with pytest.raises(ModelLoadError, match="holds no UNet") as refused:
        recognise(shapes(tiny_models.vae()), name="x.safetensors")
    assert refused.value.hint == "it looks like a VAE, which belongs into models/VAE"
    lora = {"lora_unet_conv_in.lora_down.weight": tiny_models.vae()["encoder.conv_in.weight"]}
    with pytest.raises(ModelLoadError, match=r"x\.safetensors holds no VAE") as refused:
        standalone_vae(from_tensors("x.safetensors", lora), choose_policy(use_cpu=["all"]))
    assert refused.value.hint == looks_like(shapes(lora)) == "it looks like a LoRA, which belongs into models/Lora"
