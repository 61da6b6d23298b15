"""Every option of AUTOMATIC1111 1.8.0 is declared, with its default and type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from latentd.contributions import OptionSpec
from latentd.options import OptionStore
from latentd.options.coerce import coerce
from latentd.options.declared import CORE_OPTIONS

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "recorded_options.json").read_text())
# What depends on the checkpoint that was loaded, and notes for web pages, whose words are ours.
VARIES = {"sd_model_checkpoint", "sd_checkpoint_hash", "sd_vae_explanation", "infotext_explanation", "settings_in_ui"}
EARLY_2023 = {
    "do_not_add_watermark",
    "sd_vae_as_default",
    "enable_emphasis",
    "extra_networks_default_view",
    "quicksettings",
    "ui_reorder",
    "lora_apply_to_outputs",
}


@pytest.mark.parametrize("key", sorted(RECORDED))
def test_the_default_is_the_recorded_one(key: str) -> None:
    value = OptionStore().body()[key]
    if key not in VARIES:
        assert (type(value), value) == (type(RECORDED[key]), RECORDED[key])


def test_keys_of_early_2023_are_returned_too() -> None:
    assert set(OptionStore().body()) >= EARLY_2023


def test_whole_numbers_are_floats_unless_their_default_is_zero() -> None:
    body = OptionStore().body()
    assert repr(body["jpeg_quality"]) == "80.0"
    assert repr(body["eta_noise_seed_delta"]) == "0"


def test_no_key_is_declared_twice() -> None:
    keys = [spec.key for spec in CORE_OPTIONS]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("spec", CORE_OPTIONS, ids=lambda spec: spec.key)
def test_the_default_fits_its_own_declaration(spec: OptionSpec) -> None:
    assert spec.help
    assert coerce(spec, spec.default) == spec.default
