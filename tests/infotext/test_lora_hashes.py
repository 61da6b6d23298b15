from __future__ import annotations

from latentd.infotext.lora_hashes import format_hashes, rename_by_hash


def test_hashes_as_text() -> None:
    assert format_hashes([("tinylora1", "f99887c66697"), ("a:b,c", "00")]) == "tinylora1: f99887c66697, abc: 00"


def test_a_network_known_by_another_name_is_renamed() -> None:
    prompt = "x <lora:theirs:0.5> <lora:other:1> <lora:bare>"
    hashes = "theirs: abc, other: def, broken"
    assert rename_by_hash(prompt, hashes, {"abc": "ours"}) == "x <lora:ours:0.5> <lora:other:1> <lora:bare>"
