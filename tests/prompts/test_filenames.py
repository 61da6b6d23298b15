from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from latentd.prompts.filenames import (
    FileContext,
    default_pattern,
    expand,
    relative_folder,
    sanitise,
)

CONTEXT = FileContext(
    now=datetime(2024, 3, 5, 14, 7, 9, tzinfo=UTC),
    prompt="a red circle, shaded: 1/2",
    negative_prompt="blurry",
    seed=42,
    seeds=(41, 42),
    steps=20,
    cfg_scale=7.0,
    width=512,
    height=768,
    styles=("shiny", "None"),
    style_prompts=("{prompt}, shaded: 1/2",),
    sampler="DPM++ 2M Karras",
    model_hash="328de3e9b7",
    model_name="tiny-a",
    vae_file="det-vae.safetensors",
    batch_size=2,
    batch_index=1,
    n_iter=3,
    iteration=2,
    job_timestamp="20240305140709",
    image_bytes=lambda: b"pixels",
)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("[seed]-[steps]-[cfg]-[width]x[height]", "42-20-7.0-512x768"),
        ("[SEED]", "42"),
        ("[seed_first]-[seed_last]", "41-42"),
        ("[prompt]", "a_red_circle,_shaded__1_2"),
        ("[prompt_spaces]", "a red circle, shaded_ 1_2"),
        ("[prompt_words]", "a red circle shaded 1 2"),
        ("[prompt_no_styles]", "a red circle"),
        ("[styles]", "shiny"),
        ("[sampler]", "DPM++ 2M Karras"),
        ("[model_name] [model_hash]", "tiny-a 328de3e9b7"),
        ("[vae_filename]", "det-vae"),
        ("[date]", "2024-03-05"),
        ("[datetime<%Y><UTC>]", "2024"),
        ("[datetime<%H_%M><Asia/Tokyo>]", "23_07"),
        ("[batch_number] of [batch_size], [generation_number]", "2 of 2, 6"),
        ("[hasprompt<RED><square|none><blue>]", "rednone"),
        ("[clip_skip]", "1"),
        ("[none]", ""),
        ("[job_timestamp]", "20240305140709"),
        ("x[unknown<1>]y", "x[unknown]y"),
        ("[user]", "[user]"),
        ("plain", "plain"),
    ],
)
def test_patterns(pattern: str, expected: str) -> None:
    assert expand(pattern, CONTEXT) == expected


def test_hashes_have_the_length_asked_for() -> None:
    prompt = hashlib.sha256(CONTEXT.prompt.encode()).hexdigest()
    assert expand("[prompt_hash]", CONTEXT) == prompt[:8]
    assert expand("[prompt_hash<12>]", CONTEXT) == prompt[:12]
    assert expand("[full_prompt_hash]", CONTEXT) == hashlib.sha256(b"a red circle, shaded: 1/2 blurry").hexdigest()[:8]
    assert expand("[image_hash]", CONTEXT) == hashlib.sha256(b"pixels").hexdigest()
    assert expand("[image_hash<x>]", CONTEXT) == "[image_hash]"


def test_patterns_that_do_not_apply_vanish_with_the_text_before_them() -> None:
    single = replace(CONTEXT, batch_size=1, batch_index=0, n_iter=1)
    assert expand("[seed]-b[batch_number]-g[generation_number]-d[denoising]-l[seed_last]", single) == "42"
    assert expand("[seed]-d[denoising]", replace(CONTEXT, denoising_strength=0.6)) == "42-d0.6"


def test_sanitising() -> None:
    assert sanitise(' #<>:"/\\|?*\n\r\tx. . ') == "_" * 13 + "x"
    assert sanitise("a b", underscores=True) == "a_b"
    assert len(sanitise("x" * 500)) == 128
    assert sanitise("a:b/c", unix=True) == "a:b_c"


@pytest.mark.parametrize("pattern", ["../../etc/x", "/etc/x", "..\\..\\x", "C:\\x", "a/./../../b", "[none]"])
def test_folders_stay_inside(pattern: str) -> None:
    folder = relative_folder(pattern, CONTEXT)
    assert not folder.is_absolute()
    assert ".." not in folder.parts
    assert not any(":" in part for part in folder.parts)


def test_the_pattern_when_none_is_set() -> None:
    assert default_pattern("", True) == "[seed]"
    assert default_pattern("", False) == "[seed]-[prompt_spaces]"
    assert default_pattern("[x]", True) == "[x]"
    assert str(relative_folder("", CONTEXT)) == "a red circle shaded 1 2"


@pytest.mark.parametrize("name", ["seed" + "<" * 50_000, "seed" + "<a>" * 20_000, "[" * 50_000, "seed<" * 20_000 + ">"])
def test_patterns_made_to_be_slow_take_time_in_proportion_to_their_length(name: str) -> None:
    """A regular expression took minutes for these."""
    assert expand(f"[{name}]", CONTEXT)


def test_arguments_are_read_from_the_end() -> None:
    assert expand("[datetime<%Y><Asia/Tokyo>]", CONTEXT) == "2024"
    assert expand("[datetime<a>b>]", CONTEXT) == "[datetime<a>b>]"
    assert expand("[hasprompt<red><blue|none>]", CONTEXT) == "rednone"
