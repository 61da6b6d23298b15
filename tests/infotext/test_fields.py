from __future__ import annotations

from dataclasses import replace

from latentd.infotext.build import build_parameters
from latentd.infotext.fields import InfotextFields

FIELDS = InfotextFields(
    steps=8,
    sampler="Euler",
    cfg_scale=5.0,
    seed=1234,
    size=(128, 128),
    model_hash="328de3e9b7",
    model="tiny-a",
    version="v1.8.0",
)
RECORDED = (
    "Steps: 8, Sampler: Euler, CFG scale: 5.0, Seed: 1234, Size: 128x128, Model hash: 328de3e9b7, Model: tiny-a{}, "
    "Version: v1.8.0"
)


def written(fields: InfotextFields) -> str:
    return build_parameters(fields.ordered())


def test_neutral_values_are_not_written() -> None:
    assert written(FIELDS) == RECORDED.format("")


def test_variation_and_seed_resize() -> None:
    fields = replace(FIELDS, subseed=7, subseed_strength=0.25, seed_resize_from=(96, 160))
    expected = ", Variation seed: 7, Variation seed strength: 0.25, Seed resize from: 96x160"
    assert written(fields) == RECORDED.format(expected)
    assert "Seed resize" not in written(replace(FIELDS, seed_resize_from=(-1, 160)))
    assert "Variation" not in written(replace(FIELDS, subseed=7))


def test_inpainting() -> None:
    fields = replace(
        FIELDS,
        vae="det-vae.safetensors",
        vae_hash="0d0518a898",
        denoising_strength=0.6,
        conditional_mask_weight=1.0,
        extra={"Mask blur": 4, "Masked content": "fill"},
    )
    expected = (
        ", VAE hash: 0d0518a898, VAE: det-vae.safetensors, Denoising strength: 0.6, Conditional mask weight: 1.0, "
        "Mask blur: 4, Masked content: fill"
    )
    assert written(fields) == RECORDED.format(expected)


def test_the_rest_of_the_fixed_part() -> None:
    fields = replace(FIELDS, clip_skip=2, ensd=31337, token_merging_ratio=0.5, rng="NV", ngms=2.0, tiling=True)
    expected = ", Clip skip: 2, ENSD: 31337, Token merging ratio: 0.5, RNG: NV, NGMS: 2.0, Tiling: True"
    assert written(fields) == RECORDED.format(expected)


def test_an_extra_key_of_the_fixed_part_keeps_its_place() -> None:
    fields = replace(FIELDS, extra={"Mask blur": 4, "Denoising strength": 0.6})
    assert written(fields) == RECORDED.format(", Denoising strength: 0.6, Mask blur: 4")


def test_an_overridden_schedule_stands_among_the_extra_keys() -> None:
    fields = replace(FIELDS, rng="NV", extra={"Schedule type": "karras"})
    assert written(fields) == RECORDED.format(", RNG: NV, Schedule type: karras")
    assert "Sampler: Euler, Schedule type: Karras, CFG scale" in written(replace(FIELDS, schedule_type="Karras"))


def test_user_comes_last() -> None:
    assert written(replace(FIELDS, user="me")).endswith(", Version: v1.8.0, User: me")
