from __future__ import annotations

import pytest

from latentd.infotext.build import build_infotext
from latentd.infotext.parse import MAX_PARAMETERS, ParseOptions, parse_infotext, parse_parameters, unquote
from latentd.prompts.styles import Style

DEFAULTS = {
    "Clip skip": "1",
    "Hires resize-1": 0,
    "Hires resize-2": 0,
    "Hires sampler": "Use same sampler",
    "Hires checkpoint": "Use same checkpoint",
    "Hires prompt": "",
    "Hires negative prompt": "",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
    "Masked area padding": 32,
    "RNG": "GPU",
    "Schedule type": "Automatic",
    "Schedule max sigma": 0,
    "Schedule min sigma": 0,
    "Schedule rho": 0,
    "VAE Encoder": "Full",
    "VAE Decoder": "Full",
    "FP8 weight": "Disable",
    "Emphasis": "Original",
    "Refiner switch by sampling steps": False,
}
THREE = "Steps: 4, Seed: 1, CFG scale: 7"


def test_nothing_gives_the_defaults() -> None:
    """As AUTOMATIC1111 1.8.0 answered to a picture without infotext (recorded)."""
    assert parse_infotext("") == {"Prompt": "", "Negative prompt": "", **DEFAULTS}


def test_a_recorded_hires_infotext() -> None:
    text = (
        "a red circle on a blue background\n"
        "Steps: 8, Sampler: Euler, CFG scale: 5.0, Seed: 1234, Size: 64x64, Model hash: 328de3e9b7, Model: tiny-a, "
        "Denoising strength: 0.6, Hires prompt: a green square on a yellow background, Hires negative prompt: "
        "a red circle, Hires upscale: 2.0, Hires upscaler: Latent, Version: v1.8.0"
    )
    assert parse_infotext(text) == {
        **DEFAULTS,
        "Prompt": "a red circle on a blue background",
        "Negative prompt": "",
        "Steps": "8",
        "Sampler": "Euler",
        "CFG scale": "5.0",
        "Seed": "1234",
        "Size-1": "64",
        "Size-2": "64",
        "Model hash": "328de3e9b7",
        "Model": "tiny-a",
        "Denoising strength": "0.6",
        "Hires prompt": "a green square on a yellow background",
        "Hires negative prompt": "a red circle",
        "Hires upscale": "2.0",
        "Hires upscaler": "Latent",
        "Version": "v1.8.0",
    }


def test_a_recorded_infotext_with_quotes() -> None:
    text = (
        'a red circle, <lora:tinylora1:0.5>\nNegative prompt: blurry, "quoted"\nSteps: 12, Sampler: DPM++ 2M Karras, '
        'CFG scale: 5.5, Seed: 42, Size: 128x128, Lora hashes: "tinylora1: 0123456789ab", Version: v1.8.0'
    )
    parsed = parse_infotext(text)
    assert parsed["Negative prompt"] == 'blurry, "quoted"'
    assert parsed["Lora hashes"] == "tinylora1: 0123456789ab"
    assert parsed["Sampler"] == "DPM++ 2M Karras"


def test_lines_are_gathered_and_trimmed() -> None:
    parsed = parse_infotext(f"\n one \n\n two\nNegative prompt: three\n four\n{THREE}")
    assert parsed["Prompt"] == "one\n\ntwo"
    assert parsed["Negative prompt"] == "three\nfour"


def test_two_pairs_are_no_parameters() -> None:
    assert parse_infotext("cat: dog, cow: hen")["Prompt"] == "cat: dog, cow: hen"
    assert parse_infotext("Steps: 4")["Prompt"] == "Steps: 4"


@pytest.mark.parametrize(
    ("line", "pairs"),
    [
        ('a1: x, b-2 /c: "q, \\" :", d d:', [("a1", "x"), ("b-2 /c", '"q, \\" :"'), ("d d", "")]),
        ("x: 1, ab: 2", [("ab", "2")]),
        ('ab: "open, cd: 1', [("ab", '"open'), ("cd", "1")]),
        ('ab: "x" y, cd: 1', [("ab", '"x" y'), ("cd", "1")]),
        ("(ab: 1), -- cd: 2", [("ab", "1)"), ("cd", "2")]),
        ("ab: cd: 1", [("ab", "cd: 1")]),
    ],
)
def test_pairs(line: str, pairs: list[tuple[str, str]]) -> None:
    assert parse_parameters(line) == pairs


def test_keys_without_value_are_dropped() -> None:
    assert "Decode negative prompt" not in parse_infotext(f"{THREE}, Decode negative prompt: , ENSD: 5")


def test_a_very_long_line_is_prompt() -> None:
    assert parse_parameters("a" * MAX_PARAMETERS + "b: 1") == []
    assert parse_parameters("a " * (MAX_PARAMETERS // 2)) == []


@pytest.mark.parametrize("text", ['"', '""', '"\\x"', "plain", '"a" b"'])
def test_unquoting_never_fails(text: str) -> None:
    assert isinstance(unquote(text), str)


def test_what_was_built_is_parsed() -> None:
    fields = {"Steps": 4, "Seed": 1, "CFG scale": 7.0, "Odd": 'é, "x": \n\\', "Size": "64x96"}
    parsed = parse_infotext(build_infotext("a, b: c", "d", fields))
    assert (parsed["Prompt"], parsed["Negative prompt"], parsed["Odd"]) == ("a, b: c", "d", 'é, "x": \n\\')
    assert (parsed["Size-1"], parsed["Size-2"]) == ("64", "96")


def test_hypernetworks_become_tags() -> None:
    assert parse_infotext(f"x\n{THREE}, Hypernet: h")["Prompt"] == "x<hypernet:h:1.0>"
    assert parse_infotext(f"x\n{THREE}, Hypernet: h, Hypernet strength: 0.5")["Prompt"] == "x<hypernet:h:0.5>"


def test_first_pass_size_becomes_a_hires_size() -> None:
    parsed = parse_infotext(f"{THREE}, Size: 1024x768, First pass size: 512x384")
    assert [parsed[key] for key in ("Size-1", "Size-2", "Hires resize-1", "Hires resize-2")] == [512, 384, 1024, 768]
    parsed = parse_infotext(f"{THREE}, Size: 1024x768, First pass size: 0x0")
    assert [parsed[key] for key in ("Size-1", "Size-2")] == [640, 448]


def test_the_old_meaning_of_size() -> None:
    parsed = parse_infotext(f"{THREE}, Size: 64x64, Hires resize: 128x96", ParseOptions(old_hires_size=True))
    assert (parsed["Size-1"], parsed["Size-2"]) == (128, 96)


def test_odd_sizes_do_no_harm() -> None:
    parsed = parse_infotext(f"{THREE}, Size: 0x0, First pass size: 0x0, Size-1: none")
    assert parsed["Hires resize-1"] == 512


def test_styles_are_found_and_reported_as_asked() -> None:
    style = Style(name="shiny", prompt="{prompt}, shaded", negative_prompt="blurry")
    text = f"a circle, shaded\nNegative prompt: blurry\n{THREE}"
    found = {
        mode: parse_infotext(text, ParseOptions(styles=[style], infotext_styles=mode))
        for mode in ("Ignore", "Apply", "Discard", "Apply if any")
    }
    assert found["Ignore"]["Prompt"] == "a circle, shaded"
    assert {mode: parsed["Prompt"] for mode, parsed in found.items() if mode != "Ignore"} == dict.fromkeys(
        ("Apply", "Discard", "Apply if any"), "a circle"
    )
    assert [mode for mode, parsed in found.items() if parsed.get("Styles array") == ["shiny"]] == [
        "Apply",
        "Apply if any",
    ]
    assert parse_infotext("x", ParseOptions(infotext_styles="Apply"))["Styles array"] == []


def test_keys_can_be_skipped() -> None:
    assert "Seed" not in parse_infotext(THREE, ParseOptions(skip=["Seed"]))


def test_old_versions_switch_old_behaviour_on() -> None:
    parsed = parse_infotext(f"[a:b:0.5]\n{THREE}, Sampler: DDIM, Version: v1.5.2")
    keys = ("Old prompt editing timelines", "Pad conds v0", "Downcast alphas_cumprod")
    assert all(parsed[key] is True for key in keys)
    plain = parse_infotext(f"[a:b:0.5]\n{THREE}, Version: v1.5.2", ParseOptions(auto_backcompat=False))
    assert not any(key in plain for key in keys)
