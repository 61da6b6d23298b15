"""BLIP's own checkpoint (``model_base_caption_capfilt_large.pth``) as a transformers model. Imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from latentd.api import JsonValue, ModelLoadError, load_pickle

if TYPE_CHECKING:
    from transformers import BlipForConditionalGeneration

_HEAD = 64  # channels of one attention head, in picture encoder and text decoder of all published sizes
# Parts of the picture encoder's keys (timm's names) and those of transformers; the text decoder's keys are the same.
_TOP = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
    "blocks": "encoder.layers",
}
_BLOCK = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
}


def read_blip_file(path: Path) -> BlipForConditionalGeneration:
    """A ``BlipForConditionalGeneration`` on the CPU with the weights in ``path`` and the sizes that their shapes imply.

    :raises ModelLoadError: the file is damaged, or of another layout.
    """
    from transformers import BlipConfig, BlipForConditionalGeneration

    held = load_pickle(path)
    held = held["model"] if isinstance(held.get("model"), dict) else held
    weights = {transformers_key(key): value for key, value in held.items() if isinstance(value, Tensor)}
    try:
        picture, text = _sizes(weights)
        model = BlipForConditionalGeneration(BlipConfig(vision_config=picture, text_config=text))
    except (KeyError, ZeroDivisionError, ValueError) as error:
        raise ModelLoadError(f"{path.name} is no BLIP caption model: {error}") from error
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in weights and not key.endswith("position_ids")]
    if missing:
        raise ModelLoadError(
            f"{path.name} is no BLIP caption model: {len(missing)} weights are missing, {missing[0]} first"
        )
    try:
        model.load_state_dict({key: weights[key] for key in wanted if key in weights}, strict=False)
    except RuntimeError as error:
        raise ModelLoadError(f"{path.name} does not fit BLIP's layout: {str(error)[:300]}") from error
    return model


def transformers_key(key: str) -> str:
    """The name in transformers of the weight that BLIP's own code calls ``key``."""
    prefix = "visual_encoder."
    if not key.startswith(prefix):
        return key
    rest = key.removeprefix(prefix)
    if rest.startswith("blocks."):
        _, number, inner = rest.split(".", 2)
        return f"vision_model.encoder.layers.{number}.{_replaced(inner, _BLOCK)}"
    return f"vision_model.{_replaced(rest, _TOP)}"


def _replaced(key: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        if key == old or key.startswith(old + "."):
            return new + key[len(old) :]
    return key


def _sizes(weights: Mapping[str, Tensor]) -> tuple[dict[str, JsonValue], dict[str, JsonValue]]:
    """BlipConfig's (``vision_config``, ``text_config``); those that shapes do not imply are as in BLIP's own code.

    :raises KeyError: a weight that every captioner has is missing.
    """
    picture, text = "vision_model.", "text_decoder.bert."
    patch = weights[f"{picture}embeddings.patch_embedding.weight"].shape
    patches = weights[f"{picture}embeddings.position_embedding"].shape[1] - 1
    words, width = weights[f"{text}embeddings.word_embeddings.weight"].shape
    return (
        {
            "hidden_size": patch[0],
            "patch_size": patch[-1],
            "image_size": int(patches**0.5) * patch[-1],
            "num_attention_heads": patch[0] // _HEAD,
            "num_hidden_layers": _layers(weights, f"{picture}encoder.layers."),
            "intermediate_size": weights[f"{picture}encoder.layers.0.mlp.fc1.weight"].shape[0],
            "layer_norm_eps": 1e-6,
        },
        {
            "vocab_size": words,
            "hidden_size": width,
            "encoder_hidden_size": patch[0],
            "num_attention_heads": width // _HEAD,
            "num_hidden_layers": _layers(weights, f"{text}encoder.layer."),
            "intermediate_size": weights[f"{text}encoder.layer.0.intermediate.dense.weight"].shape[0],
            "max_position_embeddings": weights[f"{text}embeddings.position_embeddings.weight"].shape[0],
            # The last two words are BLIP's own: they begin a text to be written, and one to be compared.
            "bos_token_id": words - 2,
            "sep_token_id": 102,
            "eos_token_id": 102,
            "pad_token_id": 0,
        },
    )


def _layers(keys: Iterable[str], prefix: str) -> int:
    return 1 + max((int(key[len(prefix) :].split(".")[0]) for key in keys if key.startswith(prefix)), default=-1)
