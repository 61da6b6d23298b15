from __future__ import annotations

from latentd.prompts.styles import Style, apply_styles, extract_styles

SHINY = Style(name="shiny", prompt="{prompt}, shaded, striped", negative_prompt="blurry")
APPEND = Style(name="append", prompt="on a white background", negative_prompt="circle")
STYLES = {style.name: style for style in (SHINY, APPEND)}


def test_a_style_wraps_or_follows_the_prompt() -> None:
    assert apply_styles("a circle", "", ["shiny"], STYLES) == ("a circle, shaded, striped", "blurry")
    assert apply_styles(" a circle ", "bad", ["append"], STYLES) == ("a circle, on a white background", "bad, circle")


def test_styles_apply_in_order() -> None:
    prompt, negative = apply_styles("x", "", ["append", "shiny"], STYLES)
    assert (prompt, negative) == ("x, on a white background, shaded, striped", "circle, blurry")


def test_unknown_styles_and_dividers_only_trim() -> None:
    styles = {"--": Style(name="--", prompt=None, negative_prompt=None)}
    assert apply_styles(" x ", "y ", ["none such", "--"], styles) == ("x", "y")


def test_applied_styles_are_found_again() -> None:
    prompt, negative = apply_styles("x", "y", ["append", "shiny"], STYLES)
    assert extract_styles(prompt, negative, STYLES.values()) == (["append", "shiny"], "x", "y")


def test_a_style_needs_both_its_texts() -> None:
    assert extract_styles("x, shaded, striped", "", STYLES.values()) == ([], "x, shaded, striped", "")


def test_empty_styles_are_never_found() -> None:
    assert extract_styles("x", "", [Style(name="empty"), Style(name="-", prompt=None, negative_prompt=None)])[0] == []


def test_the_two_halves_of_a_style_may_not_overlap() -> None:
    assert extract_styles("a", "", [Style(name="s", prompt="a{prompt}a")])[0] == []
