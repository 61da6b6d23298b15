"""One set of matrices, spelled as every trainer spells it, draws one picture."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import save_file
from tests.networks.spelled import Change, Module, changes, spellings
from tests.pipeline.conftest import services_on

from latentd.server.services import AppServices
from latentd.testing import tiny_models
from latentd.types import GenerationRequest

FAMILIES = ("sd1", "sd2", "sdxl")
CASES = [(family, name) for family in FAMILIES for name in spellings(family) if name != "kohya"]
BLOCKS = {
    "sd1": ("down_blocks.0.attentions.0", "input_blocks.1.1"),
    "sd2": ("down_blocks.0.attentions.0", "input_blocks.1.1"),
    "sdxl": ("down_blocks.1.attentions.0", "input_blocks.3.1"),
}
OUTSIDE = (
    ("conv_in", "input_blocks.0.0"),
    ("down_blocks.0.resnets.0.conv1", "input_blocks.1.0.in_layers.2"),
    ("down_blocks.1.resnets.0.time_emb_proj", "input_blocks.3.0.emb_layers.1"),
    ("mid_block.attentions.0.proj_in", "middle_block.1.proj_in"),
)
INSIDE = ("attn1.to_q", "attn2.to_k", "attn1.to_out.0", "ff.net.2")
TEXT = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1")


def modules(family: str, shapes: dict[str, tuple[int, ...]]) -> list[Module]:
    path, ldm = BLOCKS[family]
    pairs = [*OUTSIDE, *((f"{path}.transformer_blocks.0.{p}", f"{ldm}.transformer_blocks.0.{p}") for p in INSIDE)]
    found = [Module(part="unet", path=p, ldm=q, shape=shapes[f"model.diffusion_model.{q}.weight"]) for p, q in pairs]
    for part in ("te1", "te2") if family == "sdxl" else ("te1",):
        for layer in range(2):
            for name in TEXT:
                full = f"encoder.layers.{layer}.{name}"
                found.append(Module(part=part, path=full, ldm=full, shape=(128, 32) if "mlp" in name else (32, 32)))
    return found


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServices]:
    folder = tmp_path_factory.mktemp("spellings")
    (folder / "models/Lora").mkdir(parents=True)
    for family in FAMILIES:
        tiny_models.write(folder / f"models/Stable-diffusion/{family}.safetensors", tiny_models.checkpoint(family))
    services = services_on(folder, checkpoint="sd1.safetensors")
    yield services
    services.close()


@pytest.fixture(scope="module")
def given() -> dict[str, list[Change]]:
    found = {}
    for family in FAMILIES:
        weights = tiny_models.checkpoint(family)
        unet = {k.removeprefix("model.diffusion_model.").removesuffix(".weight"): v for k, v in weights.items()}
        listed = modules(family, {key: tuple(value.shape) for key, value in weights.items()})
        found[family] = changes(listed, unet, size=0.3)
    return found


def drawn(services: AppServices, family: str, lora: str | None, **options: object) -> bytes:
    """The picture's bytes; nothing of the network may have been left out."""
    tag = f"<lora:{lora}:0.7:0.9>" if lora else ""
    overrides = {"sd_model_checkpoint": family, "emphasis": "No norm", **options}
    request = GenerationRequest(
        prompt=f"a red circle {tag}", steps=1, width=64, height=64, seed=3, override_settings=overrides
    )
    result = asyncio.run(services.generate(request))
    assert "warnings" not in result.info
    return result.images[0].image.tobytes()


def put(services: AppServices, name: str, spelling: str, family: str, found: list[Change]) -> None:
    written = spellings(family)[spelling]
    tensors = {key: value.contiguous() for key, value in written.file(found).items()}
    path = Path(services.paths.data) / f"models/Lora/{name}.safetensors"
    save_file(tensors, path, metadata=dict(written.metadata) or None)
    services.networks.refresh()


@pytest.mark.parametrize(("family", "spelling"), CASES)
def test_every_spelling_draws_the_same_picture(
    services: AppServices, given: dict[str, list[Change]], family: str, spelling: str
) -> None:
    taken = [part for change in given[family] if (part := spellings(family)[spelling].takes(change)) is not None]
    put(services, "spelled", spelling, family, taken)
    put(services, "kohya", "kohya", family, taken)
    assert drawn(services, family, "spelled") == drawn(services, family, "kohya")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_change_is_seen_in_the_picture(
    services: AppServices, given: dict[str, list[Change]], family: str
) -> None:
    """So that the same picture means the same changes."""
    plain = drawn(services, family, None)
    for change in given[family]:
        put(services, "single", "kohya", family, [change])
        assert drawn(services, family, "single", lora_as_automatic1111=False) != plain, change.module.path
