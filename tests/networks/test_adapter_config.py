"""Alpha from the header: whose it is, by which pattern, and under which name."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from latentd.networks.adapter_config import AdapterConfigs
from latentd.networks.contents import read_network
from latentd.networks.spellings import module_name

TO_Q = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
TEXT = "text_encoder_2.text_model.encoder.layers.3.self_attn.q_proj"


def scale(metadata: dict[str, Any], key: str, rank: int = 4) -> float | None:
    name = module_name(key)
    config = AdapterConfigs(metadata).of(name)
    return config.scale(name.spelling, rank) if config else None


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"lora_alpha": 8}, 2.0),
        ({"lora_alpha": "8", "r": "16"}, 2.0),
        ({"lora_alpha": 8, "use_rslora": True}, 4.0),
        ({"lora_alpha": 8, "use_rslora": "False"}, 2.0),
        ({"alpha": 8}, None),
        ({"alpha": 8, "peft_type": "LOHA"}, 2.0),
        ({"lora_alpha": "nan"}, None),
        ({"lora_alpha": None}, None),
        ({"lora_alpha": 8, "alpha_pattern": {"to_q": 4}}, 1.0),
        ({"lora_alpha": 8, "alpha_pattern": {"attn1.to_q": 4, "to_q": 16}}, 1.0),
        ({"lora_alpha": 8, "alpha_pattern": {"o_q": 4}}, 2.0),
        ({"lora_alpha": 8, "alpha_pattern": {TO_Q.removeprefix("unet."): 4}}, 1.0),
        ({"lora_alpha": 8, "alpha_pattern": {"^down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q$": 4}}, 1.0),
        ({"lora_alpha": 8, "alpha_pattern": {r"attn1\\.(to_q|to_k)": 4}}, 2.0),
        ({"lora_alpha": 8, "alpha_pattern": {r"attn1\.(to_q|to_k)": 4}}, 1.0),
        ({"lora_alpha": 8, "alpha_pattern": {r"down_blocks\.\d+\..*to_q": 4}}, 1.0),
        ({"alpha_pattern": {"to_q": 4}}, 1.0),
    ],
)
def test_the_scale_of_a_module(config: dict[str, Any], expected: float | None) -> None:
    packed = {f"unet.{key}": value for key, value in config.items()}
    for metadata in (config, packed, {"lora_adapter_metadata": packed}, {"adapter_config": config}):
        assert scale(metadata, TO_Q) == expected


def test_each_part_has_settings_of_its_own() -> None:
    packed = {"unet.lora_alpha": 4, "text_encoder.lora_alpha": 8, "text_encoder_2.lora_alpha": 16}
    metadata = {"lora_adapter_metadata": packed, "modelspec.title": "x", "ss_network_args": {"alpha": "64"}}
    assert scale(metadata, TO_Q) == 1.0
    assert scale(metadata, TEXT.replace("_2", "")) == 2.0
    assert scale(metadata, TEXT) == 4.0
    assert scale(metadata, "down_blocks.0.attentions.0.proj_in") is None
    only = {"lora_adapter_metadata": {"unet.lora_alpha": 4}}
    assert scale(only, "down_blocks.0.attentions.0.proj_in") == 1.0
    assert scale(only, TEXT) is None


@pytest.mark.parametrize("pattern", ["(a+)+b", "(.*)*", ".*.*.*x", "(", "x" * 500, "(?:a|aa)+", "a{1,9}{1,9}"])
def test_patterns_that_could_take_long_are_not_followed_and_told(pattern: str) -> None:
    begun = time.perf_counter()
    configs = AdapterConfigs({"lora_alpha": 8, "alpha_pattern": {pattern: 2}})
    config = configs.of(module_name(TO_Q))
    assert config is not None
    assert config.scale("a" * 200, 4) == 2.0
    assert configs.unread == (pattern,)
    followed = AdapterConfigs({"lora_alpha": 8, "alpha_pattern": {".*.*x": 2}}).of(module_name(TO_Q))
    assert followed is not None
    assert followed.scale("a" * 100_000, 4) == 2.0
    assert time.perf_counter() - begun < 1


def lora(rank: int) -> dict[str, torch.Tensor]:
    return {f"{TO_Q}.lora_A.weight": torch.ones(rank, 8), f"{TO_Q}.lora_B.weight": torch.ones(8, rank)}


def test_the_tensors_rank_counts_and_a_tensor_of_alpha_goes_before(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    header = {
        "lora_adapter_metadata": json.dumps({"unet.r": 64, "unet.lora_alpha": 4, "unet.rank_pattern": {"to_q": 8}})
    }
    save_file(lora(8), path, metadata=header)
    (weights,) = read_network(path).modules.values()
    assert float(weights["scale"]) == 0.5
    save_file({**lora(8), f"{TO_Q}.alpha": torch.tensor(2.0)}, path, metadata=header)
    (weights,) = read_network(path).modules.values()
    assert "scale" not in weights
    assert float(weights["alpha"]) == 2.0


def test_the_headers_rank_counts_where_the_tensors_have_none(tmp_path: Path) -> None:
    """PEFT divides alpha by the rank it was told, also for a LoKr that is so small that both factors are whole."""
    path = tmp_path / "x.safetensors"
    whole = {f"{TO_Q}.lokr_w1": torch.ones(2, 2), f"{TO_Q}.lokr_w2": torch.ones(4, 4), f"{TEXT}.diff": torch.ones(8, 8)}
    told = {"peft_type": "LOKR", "alpha": 6, "r": 4, "rank_pattern": {"attn1.to_q": 3}}
    for config, expected in (
        (told, 2.0),
        ({**told, "rank_pattern": {}}, 1.5),
        ({**told, "r": 0, "rank_pattern": {}}, None),
    ):
        save_file(whole, path, metadata={"lora_adapter_metadata": json.dumps(config)})
        first, second = read_network(path).modules.values()
        lokr, full = (first, second) if "lokr_w1" in first else (second, first)
        assert (float(lokr["scale"]) if "scale" in lokr else None) == expected
        assert "scale" not in full


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("adapter_model", '{"lora_alpha": 2, "peft_type": "LORA"}', 0.5),
        ("adapter_model", "{broken", None),
        ("adapter_model", "[1]", None),
        ("other", '{"lora_alpha": 2}', None),
    ],
)
def test_the_configuration_beside_a_file_of_pefts_own(
    tmp_path: Path, name: str, text: str, expected: float | None
) -> None:
    save_file(lora(4), tmp_path / f"{name}.safetensors")
    (tmp_path / "adapter_config.json").write_text(text)
    (weights,) = read_network(tmp_path / f"{name}.safetensors").modules.values()
    assert (float(weights["scale"]) if "scale" in weights else None) == expected
