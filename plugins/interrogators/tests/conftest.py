"""Tiny networks in the true layouts: a BLIP captioner and a CLIP model. Random weights, real code."""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentd.testing import latentd_app

sys.path.insert(0, str(Path(__file__).parent))

from interrogation import BERT, WIDTH, WORDS, write_vocabulary

__all__ = ["latentd_app"]


@pytest.fixture(scope="session")
def blip() -> Any:
    """A tiny captioner that writes words only, and different ones for different pictures."""
    import torch
    from transformers import BlipConfig, BlipForConditionalGeneration

    torch.manual_seed(3)
    sizes = {
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "initializer_range": 0.4,
    }
    config = BlipConfig(
        vision_config=sizes | {"image_size": 32, "patch_size": 16, "layer_norm_eps": 1e-6},
        text_config=sizes
        | {
            "vocab_size": len(BERT) + 2,
            "encoder_hidden_size": WIDTH,
            "max_position_embeddings": 64,
            "bos_token_id": len(BERT),
            "sep_token_id": 102,
            "eos_token_id": 102,
            "pad_token_id": 0,
        },
    )
    model = BlipForConditionalGeneration(config).eval()
    with torch.no_grad():
        # Nearly even odds: otherwise the likeliest word is always the last one, and beams find nothing else.
        model.text_decoder.cls.predictions.transform.LayerNorm.weight.mul_(0.2)
        bias = model.text_decoder.cls.predictions.bias
        bias[:] = -1e4
        bias[102] = 0
        bias[len(BERT) - len(WORDS) : len(BERT)] = 0
        model.text_decoder.cls.predictions.decoder.bias.copy_(bias)
    return model


@pytest.fixture(scope="session")
def write_blip(blip: Any) -> Callable[[Path], Path]:
    """Writes the captioner below a data folder, as transformers does."""

    def write(data: Path) -> Path:
        folder = data / "models/BLIP/tiny-captioner"
        blip.save_pretrained(str(folder))
        write_vocabulary(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def write_clip() -> Callable[[Path], Path]:
    """Writes a tiny CLIP model that spells its texts letter by letter."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    vocabulary = {token: number for number, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(5)
    config = CLIPConfig(
        text_config=sizes
        | {
            "vocab_size": len(vocabulary),
            "max_position_embeddings": 16,
            "bos_token_id": len(letters),
            "eos_token_id": len(letters) + 1,
        },
        vision_config=sizes | {"image_size": 32, "patch_size": 16},
        projection_dim=16,
        logit_scale_init_value=float(np.log(100)),
        initializer_factor=4.0,
    )
    model = CLIPModel(config).eval()

    def write(data: Path) -> Path:
        folder = data / "models/CLIP/tiny-clip"
        model.save_pretrained(str(folder))
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
        return folder

    return write
