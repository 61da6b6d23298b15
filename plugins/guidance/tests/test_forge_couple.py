"""Regional prompts: each line acts where its region is, in every mode, and what cannot act is refused."""

from __future__ import annotations

import base64
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import latentd_guidance
import numpy as np
import pytest
import torch
from latentd_guidance import couple_regions as regions
from latentd_guidance.forge_couple import (
    STATE,
    Couple,
    CoupleArgs,
    CoupleHook,
    ForgeCouple,
    Term,
    attention_grid,
    terms_of,
)
from PIL import Image

from latentd.api import InvalidRequest
from latentd.testing import AppFactory

TITLE = "Forge Couple"
BODY: dict[str, Any] = {"seed": 901, "sampler_name": "Euler a"}
LEFT, RIGHT = "a red ring", "many green squares on white"
LINES = f"{LEFT}\n{RIGHT}"


def args(*values: Any, **fields: Any) -> dict[str, Any]:
    """Always-on scripts with Forge Couple, by position or by name."""
    return {TITLE: list(values) or {"enable": True, **fields}}


def halves(width: int = 64, height: int = 64) -> tuple[str, str]:
    """Masks of the left and the right half, in base64."""
    texts = []
    for left in (0, width // 2):
        mask = Image.new("L", (width, height))
        mask.paste(255, (left, 0, left + width // 2, height))
        buffer = io.BytesIO()
        mask.save(buffer, "PNG")
        texts.append(base64.b64encode(buffer.getvalue()).decode())
    return texts[0], texts[1]


# --- prompts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "separator", "lines"),
    [
        ("a\nb", "", ["a", "b"]),
        ("a\n\n b \n<lora:x:1>\n", " ", ["a", "b"]),
        ("a <lora:x:0.5>, b | c", "|", ["a , b", "c"]),
        ("a\nb SEP c", "SEP", ["a\nb", "c"]),
        ("a\nb", "\\n", ["a", "b"]),
        ("", "", []),
    ],
)
def test_a_prompt_is_split_at_its_separator(prompt: str, separator: str, lines: list[str]) -> None:
    assert regions.split_prompt(prompt, separator, "off", keep_definitions=True) == lines


@pytest.mark.parametrize(
    ("text", "keep", "expanded"),
    [
        ("{look: red, tall}\nthe {look} man", True, "red, tall\nthe red, tall man"),
        ("{look: red, tall}\nthe { look } man", False, "\nthe red, tall man"),
        ("{other} and {a:b} {a:c} {a}", True, "{other} and b c c"),
        ("{a:b:c} {a}", True, "b:c b:c"),
    ],
)
def test_common_prompts_are_defined_once(text: str, keep: bool, expanded: str) -> None:
    assert regions.expand_common(text, "{", "}", keep=keep) == expanded


def test_brackets_without_end_take_no_time() -> None:
    text = "{a:" * 20_000
    assert regions.expand_common(text, "{", "}", keep=True) == text


def test_the_signs_of_common_prompts() -> None:
    prompt = "{x:1}<y z:2>\n{x}<y z>"
    assert regions.split_prompt(prompt, "", "{ }", keep_definitions=True) == ["1<y z:2>", "1<y z>"]
    assert regions.split_prompt(prompt, "", "< >", keep_definitions=False) == ["{x:1}", "{x}2"]
    assert regions.split_prompt(prompt, "", "off", keep_definitions=True) == prompt.split("\n")


# --- masks, in pixels as Forge Couple draws them --------------------------------------------------------------------


def written_out(planes: list[np.ndarray]) -> np.ndarray:
    """Masks in pixels, divided by their sum, read at each cell's first pixel."""
    stacked = np.stack(planes)
    return (stacked / stacked.sum(axis=0))[:, ::8, ::8]


@pytest.mark.parametrize(("width", "height"), [(64, 64), (104, 72), (512, 264)])
@pytest.mark.parametrize("horizontal", [True, False])
@pytest.mark.parametrize("background", ["None", "First Line", "Last Line"])
def test_tiles_are_those_of_the_extension(width: int, height: int, horizontal: bool, background: str) -> None:
    length = width if horizontal else height
    size = (length - 1) // 3 + 1
    planes = []
    for tile in range(3):
        plane = np.zeros((height, width))
        part = slice(tile * size, (tile + 1) * size)
        plane[(slice(None), part) if horizontal else (part, slice(None))] = 1.25 if background == "None" else 1.0
        planes.append(plane)
    if background != "None":
        planes.insert(0 if background == "First Line" else 3, np.full((height, width), 0.4))
    couple = Couple(
        CoupleArgs(direction="Horizontal" if horizontal else "Vertical", background=background, background_weight=0.4)
    )
    found = couple.shares(len(planes), width, height)
    assert np.allclose(found, written_out(planes), atol=1e-6)


def test_areas_are_those_of_the_extension() -> None:
    rows = [[0, 1, 0, 1, 0.5], [0.1, 0.6, 0.0, 0.7, 1.0], [0.5, 1.0, 0.25, 1.0, 2.0]]
    planes = []
    for x1, x2, y1, y2, weight in rows:
        plane = np.zeros((72, 104))
        plane[int(72 * y1) : int(72 * y2), int(104 * x1) : int(104 * x2)] = weight
        planes.append(plane)
    found = Couple(CoupleArgs(mode="Advanced", mapping=rows)).shares(3, 104, 72)
    assert np.allclose(found, written_out(planes), atol=1e-6)


def test_rows_of_the_first_version_are_read() -> None:
    (area,) = regions.read_areas([["0:0.5", "0.25:1.0", "0.7"]])
    assert (area.left, area.right, area.top, area.bottom, area.weight) == (0, 0.5, 0.25, 1, 0.7)


def test_masks_count_by_brightness_and_weight() -> None:
    ramp = Image.linear_gradient("L").resize((64, 64))
    planes = regions.drawn([(ramp, 0.5), (Image.new("RGB", (3, 5), "white"), 1.0)], 64, 64)
    assert np.allclose(planes[0], np.asarray(ramp)[::8, ::8] / 255 * 0.5)
    assert (planes[1] == 1).all()


def test_the_grid_of_an_attention() -> None:
    assert attention_grid(24 * 16, 24, 16) == (24, 16)
    assert attention_grid(3 * 5, 9, 17) == (3, 5)
    # Features that another script has divided by 1.5.
    assert attention_grid(16 * 11, 24, 16) == (16, 11)


# --- the attention ---------------------------------------------------------------------------------------------------


def test_a_place_attends_to_each_text_by_its_share() -> None:
    """Against softmax attention written out for each picture, cell and text."""
    rng = np.random.default_rng(2)
    weights = {name: torch.tensor(rng.normal(size=(6, 4)), dtype=torch.float32) for name in "kv"}

    def attend(hidden: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        assert context is not None
        keys, values = context @ weights["k"], context @ weights["v"]
        return (hidden @ keys.transpose(1, 2) / 2).softmax(-1) @ values

    hidden = torch.tensor(rng.normal(size=(4, 6, 4)), dtype=torch.float32)
    context = torch.tensor(rng.normal(size=(4, 3, 6)), dtype=torch.float32)
    texts = [torch.tensor(rng.normal(size=(length, 6)), dtype=torch.float32) for length in (3, 5)]
    shares = rng.uniform(size=(2, 2, 4, 6)).astype(np.float32)  # texts, pictures, height, width
    shares /= shares.sum(axis=0)
    hook = CoupleHook(CoupleArgs(enable=True))
    terms = [Term(lambda call, text=text: text, share) for text, share in zip(texts, shares, strict=True)]
    hook.open(SimpleNamespace(state={STATE: terms}, pass_name="base"))
    call = SimpleNamespace(
        context=context, call_index=0, sample=torch.zeros(4, 4, 4, 6),
        is_cond=torch.tensor([True, True, False, False]), image_index=torch.tensor([0, 1, 0, 1]),
    )  # fmt: skip
    hook.before(call)
    found = hook._attend(call, hidden, context, attend)
    plain = attend(hidden, context)
    assert torch.equal(found[2:], plain[2:])
    for row, picture in ((0, 0), (1, 1)):
        for cell in range(6):
            y, x = divmod(cell, 3)  # the grid is 2x3: every other cell of the latent
            expected = torch.zeros(4)
            for text, share in zip(texts, shares, strict=True):
                keys, values = text @ weights["k"], text @ weights["v"]
                attention = (hidden[row, cell] @ keys.T / 2).softmax(-1)
                expected += attention @ values * float(share[picture, 2 * y, 2 * x])
            assert torch.allclose(found[row, cell], expected, atol=1e-5)


# --- whole requests --------------------------------------------------------------------------------------------------

BASIC: dict[str, Any] = {"mode": "Basic"}
ADVANCED: dict[str, Any] = {"mode": "Advanced", "mapping": [[0, 0.5, 0, 1, 1], [0.5, 1, 0, 1, 1]]}


def mask_mode() -> dict[str, Any]:
    return {"mode": "Mask", "mapping": [{"mask": mask, "weight": 1.0} for mask in halves()]}


def test_each_half_follows_its_own_line(tmp_path: Path) -> None:
    """Drawn by the model that comes along, which knows colours: blue on the left, yellow on the right."""
    tinymodel = pytest.importorskip("latentd_tinymodel")
    factory = AppFactory(tmp_path)
    try:
        client = factory([latentd_guidance, tinymodel])
        body = BODY | {"width": 192, "height": 128, "steps": 8, "cfg_scale": 6, "negative_prompt": ""}
        means = []
        for prompt, scripts in (
            ("a red apple, blue background", {}),
            ("a red apple, blue background\na green leaf, yellow background", {}),
            ("a red apple, blue background\na green leaf, yellow background", {TITLE: {"args": [True]}}),
        ):
            reply = client.post("/sdapi/v1/txt2img", json=body | {"prompt": prompt, "alwayson_scripts": scripts})
            picture = Image.open(io.BytesIO(base64.b64decode(reply.json()["images"][0]))).convert("RGB")
            pixels = np.asarray(picture, dtype=float)
            means.append([pixels[:, half].mean(axis=(0, 1)) for half in (slice(0, 80), slice(112, 192))])
    finally:
        factory.close()
    for left, right in means[:2]:  # blue everywhere, also where the lines are one prompt
        assert min(left[2] - left[0], right[2] - right[0]) > 40
    left, right = means[2]
    assert left[2] - left[0] > 20
    assert right[0] - right[2] > 80
    assert right[1] - right[2] > 80


def test_one_text_everywhere_is_that_text(draw: Callable[..., Any], plain: np.ndarray) -> None:
    """Two regions of one text attend as without regions, up to rounding."""
    twice = draw(args(**BASIC), prompt="a red ring\na red ring").image
    assert np.abs(twice.astype(int) - plain).max() <= 1


def test_the_modes_agree_about_halves(draw: Callable[..., Any]) -> None:
    basic = draw(args(**BASIC), prompt=LINES).image
    for fields in (ADVANCED, mask_mode()):
        assert np.array_equal(draw(args(**fields), prompt=LINES).image, basic)


def test_layouts_of_every_version_are_one(draw: Callable[..., Any]) -> None:
    basic = draw(args(**BASIC), prompt=LINES).image
    for values in (
        (True, "Basic", "", "Horizontal", "None", 0.5, None),
        (True, True, "Basic", "", "Horizontal", "None", None, None),
        (True, True, "Basic", "\\n", "Horizontal", None, None, None, "off", False, *[None] * 6),
        (True, True, "Basic", None, None, None, None, None, "off", False, True, *[None] * 6),
    ):
        drawn = draw(args(*values), prompt=LINES)
        assert np.array_equal(drawn.image, basic), values
        assert "warnings" not in drawn.info


def test_off_changes_no_pixel_and_no_word(draw: Callable[..., Any]) -> None:
    alone = draw(prompt=LINES)
    for values in ((False,), (False, False, "Advanced", "|", "Vertical", "First Line", 0.3, [])):
        off = draw(args(*values), prompt=LINES)
        assert np.array_equal(off.image, alone.image)
        assert off.infotext == alone.infotext


def test_a_background_line_acts_everywhere(draw: Callable[..., Any]) -> None:
    pictures = [
        draw(args(background=where, background_weight=weight), prompt=prompt).image
        for where, weight, prompt in (
            ("First Line", 0.5, f"blue fog\n{LINES}"),
            ("Last Line", 0.5, f"{LINES}\nblue fog"),
            ("First Line", 1.0, f"blue fog\n{LINES}"),
        )
    ]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_pictures_of_a_batch_are_as_drawn_alone(draw: Callable[..., Any], send: Callable[..., Any]) -> None:
    reply = send(args(**BASIC), prompt=LINES, batch_size=2).json()
    second = np.asarray(Image.open(io.BytesIO(base64.b64decode(reply["images"][1]))).convert("RGB"))
    alone = draw(args(**BASIC), prompt=LINES, seed=8).image
    assert np.abs(second.astype(int) - alone).max() <= 2


def test_pictures_of_a_batch_have_texts_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts may give each picture another prompt, of another number of lines."""
    monkeypatch.setattr("latentd.pipeline.passes.conditioning.encode_prompt", lambda generation, text: text)
    plan = SimpleNamespace(prompts=("x", "x", "a\nb", "a\nc\nd"), hires=None, batch_size=2, width=96, height=64)
    generation = SimpleNamespace(plan=plan, batch=1, pass_name="base")
    found = {term.context: term.shares for term in terms_of(generation, Couple(CoupleArgs(enable=True)))}
    assert sorted(found) == ["a", "b", "c", "d"]
    columns = {text: [row[0].nonzero()[0].tolist() for row in shares] for text, shares in found.items()}
    assert columns == {
        "a": [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3]],
        "b": [[6, 7, 8, 9, 10, 11], []],
        "c": [[], [4, 5, 6, 7]],
        "d": [[], [8, 9, 10, 11]],
    }


def test_regions_act_in_img2img(server: Any, draw: Callable[..., Any]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(draw(prompt=LEFT).image).save(buffer, "PNG")
    body = BODY | {"init_images": [base64.b64encode(buffer.getvalue()).decode()], "prompt": LINES, "steps": 4}
    pictures = []
    for scripts in ({}, {TITLE: {"args": [True]}}, {TITLE: {"args": [False]}}):
        reply = server.post("/sdapi/v1/img2img", json=body | {"width": 64, "height": 64, "alwayson_scripts": scripts})
        assert reply.status_code == 200, reply.text
        pictures.append(reply.json()["images"][0])
    assert pictures[0] == pictures[2] != pictures[1]


def test_hires_fix_is_left_alone_where_asked(draw: Callable[..., Any]) -> None:
    hires = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.6}
    pictures = [draw(args(disable_hr=off, **BASIC), prompt=LINES, **hires).image for off in (True, False)]
    assert not np.array_equal(*pictures)


def test_prompts_are_edited_within_regions(draw: Callable[..., Any]) -> None:
    edited = draw(args(**BASIC), prompt=f"[{LEFT}:blue fog:0.5]\n{RIGHT}").image
    assert not np.array_equal(edited, draw(args(**BASIC), prompt=LINES).image)
    never = draw(args(**BASIC), prompt=f"[{LEFT}:blue fog:99]\n{RIGHT}").image
    assert np.array_equal(never, draw(args(**BASIC), prompt=LINES).image)


@pytest.mark.parametrize("fields", [{**BASIC, "separator": "|", "direction": "Vertical"}, ADVANCED])
def test_the_infotext_brings_the_regions_back(
    draw: Callable[..., Any], send: Callable[..., Any], fields: dict[str, Any]
) -> None:
    prompt = LINES.replace("\n", "|") if "separator" in fields else LINES
    drawn = draw(args(**fields), prompt=prompt)
    assert "forge_couple: True" in drawn.infotext
    reply = send(body={"infotext": drawn.infotext, "prompt": prompt}).json()
    again = Image.open(io.BytesIO(base64.b64decode(reply["images"][0]))).convert("RGB")
    assert np.array_equal(np.asarray(again), drawn.image)


def test_masks_cannot_be_brought_back(send: Callable[..., Any], draw: Callable[..., Any]) -> None:
    drawn = draw(args(**mask_mode()), prompt=LINES)
    entries = {"forge_couple": "True", "forge_couple_mode": "Mask"}
    assert "forge_couple_mode: Mask" in drawn.infotext
    assert ForgeCouple().from_infotext(entries, None, "txt2img") == "Forge Couple: masks are not in infotexts"


@pytest.mark.parametrize(
    ("fields", "prompt", "words"),
    [
        (BASIC, "one line", "the prompt has 1 lines, and needs 2"),
        (BASIC | {"background": "First Line"}, "a\nb", "the prompt has 2 lines, and needs 3"),
        (BASIC, "\n".join("abcdefghi" * 8), "more than 64 regions"),
        (BASIC, "\n".join("abcdefghijkl"), "region 4 is empty at this size"),
        (ADVANCED, "a\nb\nc", "3 lines of the prompt for 2 regions"),
        (ADVANCED | {"mapping": None}, "a\nb", "modes Advanced and Mask need a mapping"),
        (ADVANCED | {"mapping": [[0, 0.5, 0, 1, 1], [0.5, 0.8, 0, 1, 1]]}, "a\nb", "parts of the picture"),
        (ADVANCED | {"mapping": [[0, 0.5, 0, 1, 1], [0.5, 0.4, 0, 1, 1]]}, "a\nb", "row 2 of mapping is no part"),
        (ADVANCED | {"mapping": [[0, 0.5, 0, 1], {}]}, "a\nb", "row 1 of mapping is no region"),
        (ADVANCED | {"mapping": [[0, 1, 0, 1, "nan"]]}, "a\nb", "row 1 of mapping is no region"),
        (ADVANCED | {"mapping": [[0, 1, 0, 1, 1]] * 65}, "a\nb", "more than 64 regions"),
        ({"mode": "Mask", "mapping": [[0, 1, 0, 1, 1]]}, "a\nb", "row 1 of mapping is no mask"),
        ({"mode": "Mask", "mapping": [{"mask": "nothing"}]}, "a\nb", "Invalid encoded image"),
        (BASIC | {"use_tile": True}, LINES, "tile mode is not known"),
    ],
)
def test_what_cannot_act_is_refused(send: Callable[..., Any], fields: dict[str, Any], prompt: str, words: str) -> None:
    reply = send(args(**fields), prompt=prompt)
    assert reply.status_code == 422, reply.text
    assert words in reply.json()["detail"]


def test_tiles_of_multidiffusion_know_no_regions(send: Callable[..., Any]) -> None:
    tiles = {"MultiDiffusion Integrated": [True, "MultiDiffusion", 32, 32, 8, 4]}
    for scripts in (args(**BASIC) | tiles, tiles | args(**BASIC)):
        assert "MultiDiffusion" in send(scripts, prompt=LINES).json()["detail"]


def test_and_is_told(draw: Callable[..., Any]) -> None:
    drawn = draw(args(**BASIC), prompt=f"{LEFT} AND blue fog\n{RIGHT}")
    assert drawn.info["warnings"] == ["Forge Couple: AND does not compose prompts within regions"]


def test_other_techniques_act_beside_it(draw: Callable[..., Any]) -> None:
    basic = draw(args(**BASIC), prompt=LINES).image
    for title, values in (
        ("PerturbedAttentionGuidance Integrated", [True, 3.0]),
        ("Kohya HRFix Integrated", [True, 3, 1.5, 0.0, 0.6, True, "bicubic", "bicubic"]),
    ):
        assert not np.array_equal(draw(args(**BASIC) | {title: values}, prompt=LINES).image, basic)


def test_the_arguments_can_be_sent_to_another_process() -> None:
    couple = Couple(CoupleArgs(enable=True), np.ones((2, 3, 4), np.float32))
    again = pickle.loads(pickle.dumps(couple))
    assert np.array_equal(again.masks, couple.masks)
    with pytest.raises(InvalidRequest):
        again.shares(1, 64, 64)
