from __future__ import annotations

from latentd.prompts.networks import extract_networks


def test_tags_leave_the_text() -> None:
    text, tags = extract_networks("a <lora:one:0.5> red <hypernet:two>circle")
    assert text == "a  red circle"
    assert [(tag.name, tag.positional) for tag in tags] == [("lora", ("one", "0.5")), ("hypernet", ("two",))]


def test_arguments_with_one_equals_sign_are_named() -> None:
    tag = extract_networks("<lora:x:te=0.2:unet=1.0:a=b=c:dyn>")[1][0]
    assert tag.positional == ("x", "a=b=c", "dyn")
    assert tag.named == {"te": "0.2", "unet": "1.0"}


def test_unknown_kinds_are_tags_and_other_brackets_are_text() -> None:
    assert extract_networks("<foo:bar> <not a tag> a<b <:x> <lora:>")[0] == " <not a tag> a<b <:x> <lora:>"


def test_a_prompt_without_tags_is_untouched() -> None:
    assert extract_networks(" a  cat ") == (" a  cat ", [])
