"""Options of models and networks act on real generations."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pipeline.conftest import Draw

from latentd.conditioning.encode import TextConditioner
from latentd.errors import InvalidRequest
from latentd.server.services import AppServices
from latentd.types import Result


def far(one: Result, other: Result) -> int:
    a, b = (np.asarray(r.images[0].image, dtype=int) for r in (one, other))
    return int(np.abs(a - b).max())


def text(result: Result) -> str:
    return str(result.images[0].infotext)


def test_fp8_storage(draw: Draw) -> None:
    whole, small = draw(), draw({"fp8_storage": "Enable"})
    assert far(whole, small) > 0
    assert "FP8 weight: Enable, Cache FP16 weight for LoRA: False" in text(small)
    only_xl = draw({"fp8_storage": "Enable for SDXL"})
    assert "FP8 weight" not in text(only_xl)
    assert far(whole, only_xl) == 0


def test_cache_fp16_weight(draw: Draw) -> None:
    prompt = "a circle <lora:tinylora1:1>"
    small = draw({"fp8_storage": "Enable"}, prompt=prompt)
    kept = draw({"fp8_storage": "Enable", "cache_fp16_weight": True}, prompt=prompt)
    assert far(small, kept) > 0
    assert "Cache FP16 weight for LoRA: True" in text(kept)
    assert "Cache FP16 weight" not in text(draw({"cache_fp16_weight": True}))


@pytest.mark.parametrize("option", ["lora_functional", "lora_apply_to_outputs"])
def test_ways_of_applying_networks(draw: Draw, services: AppServices, option: str) -> None:
    prompt = "a circle <lora:tinylora1:1>"
    without, merged, beside = draw(prompt="a circle "), draw(prompt=prompt), draw({option: True}, prompt=prompt)
    assert far(without, beside) > 0
    # Merging and standing beside are the same sum; feeding a layer its output is not.
    assert (far(merged, beside) <= 2) is (option == "lora_functional")
    with services.models.lease("tiny-a.safetensors") as model:
        assert any(module._forward_hooks for module in model.unet.modules())
        draw(prompt="a circle ")
        assert not any(module._forward_hooks for module in model.unet.modules())


def test_lora_in_memory_limit(draw: Draw, services: AppServices) -> None:
    cache = services.models.cache
    draw({"lora_in_memory_limit": 1}, prompt="a <lora:tinylora1:1>")
    (kept,) = cache.loaded("lora")
    draw({"lora_in_memory_limit": 1}, prompt="a <lora:tinylora1:0.5>")
    assert cache.loaded("lora") == [kept]
    draw(prompt="a <lora:tinylora1:0.7>")
    assert cache.loaded("lora") == []


def test_hidden_folders_are_listed_as_the_option_says(services: AppServices, data: Path) -> None:
    folder = data / "models" / "Lora"
    source = folder.resolve()
    folder.unlink()
    (folder / ".kept").mkdir(parents=True)
    (folder / ".kept" / "hidden.safetensors").symlink_to(source / "tinylora1.safetensors")
    try:
        for wanted, names in ((True, ["hidden"]), (False, [])):
            services.options.update({"list_hidden_files": wanted})
            services.networks.refresh()
            assert [row["name"] for row in services.lora_rows()] == names
    finally:
        shutil.rmtree(folder)
        folder.symlink_to(source)
        services.options.update({"list_hidden_files": True})
        services.networks.refresh()


def test_the_hash_of_the_loaded_checkpoint_is_an_option(services: AppServices) -> None:
    asyncio.run(services.load_selected())
    assert services.options["sd_checkpoint_hash"] == services.models.current.sha256
    assert len(services.options["sd_checkpoint_hash"]) == 64


@pytest.mark.parametrize(("keep", "encoded"), [(True, 1), (False, 2)])
def test_persistent_cond_cache(draw: Draw, monkeypatch: pytest.MonkeyPatch, keep: bool, encoded: int) -> None:
    texts: list[tuple[str, ...]] = []
    encode = TextConditioner._encode

    def counted(conditioner: TextConditioner, given: Sequence[str], *rest: Any) -> Any:
        texts.append(tuple(given))
        return encode(conditioner, given, *rest)

    monkeypatch.setattr(TextConditioner, "_encode", counted)
    prompt = f"a picture, cache {keep}"
    first, second = (draw({"persistent_cond_cache": keep}, prompt=prompt) for _ in range(2))
    assert texts.count((prompt,)) == encoded
    assert far(first, second) == 0


@pytest.mark.parametrize("add", [True, False])
def test_lora_add_hashes_to_infotext(draw: Draw, add: bool) -> None:
    drawn = draw({"lora_add_hashes_to_infotext": add}, prompt="a <lora:tinylora1:1>", steps=1)
    assert ("Lora hashes" in text(drawn)) is add


def test_s_min_uncond_all(draw: Draw) -> None:
    some = draw(steps=5, s_min_uncond=14.0)
    every = draw({"s_min_uncond_all": True}, steps=5, s_min_uncond=14.0)
    assert "NGMS: 14.0" in text(some)
    assert "NGMS all steps: True" in text(every)
    assert "NGMS all steps" not in text(some)
    assert "NGMS all steps" not in text(draw({"s_min_uncond_all": True}, steps=5))
    assert far(some, every) > 0


@pytest.mark.parametrize("key", ["beta_dist_alpha", "beta_dist_beta"])
def test_the_beta_schedules_shape(draw: Draw, key: str) -> None:
    plain = draw(steps=5, scheduler="Beta")
    bent = draw({key: 0.2}, steps=5, scheduler="Beta")
    assert "Beta schedule alpha: 0.6, Beta schedule beta: 0.6" in text(plain)
    assert f"Beta schedule {key.removeprefix('beta_dist_')}: 0.2" in text(bent)
    assert far(plain, bent) > 0


def test_brackets_that_would_take_too_much_work_fail_the_job(draw: Draw) -> None:
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        draw(prompt="(a" * 3000 + ")" * 3000)
    for prompt in ("(" * 3000 + "a" + ")" * 3000, "(a:" + "9" * 60 + ")"):
        with pytest.raises(InvalidRequest, match="must be within"):
            draw(prompt=prompt)
