from __future__ import annotations

from latentd.infotext.build import build_infotext, quote


def test_prompt_negative_and_parameters() -> None:
    text = build_infotext("a red circle\non blue", "line one\nline two", {"Steps": 4, "CFG scale": 5.0, "Seed": None})
    assert text == "a red circle\non blue\nNegative prompt: line one\nline two\nSteps: 4, CFG scale: 5.0"


def test_without_prompts_only_parameters_are_left() -> None:
    assert build_infotext("", "", {"Steps": 4}) == "Steps: 4"


def test_values_that_would_be_misread_are_quoted() -> None:
    assert quote("tinylora1: f99887c66697") == '"tinylora1: f99887c66697"'
    assert quote('é, "x"\n') == '"é, \\"x\\"\\n"'
    assert quote("plain") == "plain"
    assert quote([1, 2]) == "[1, 2]"


def test_a_key_that_equals_its_value_is_written_alone() -> None:
    assert build_infotext("", "", {"Mark": "Mark", "Empty": "", "Next": 1}) == "Mark, Empty: , Next: 1"
