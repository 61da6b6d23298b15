"""The lists of templates, in files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from latentd_scripts.dynamic import wildcards
from latentd_scripts.dynamic.wildcards import WildcardFiles

_YAML = """
clothing: [T-shirt, 3::Pants]
artists:
  finnish:
    - Helene Schjerfbeck
    - {text: Eero, weight: 2}
  number: 12
1234: [ignored]
line: one text
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "wildcards"
    for name, text in {
        "colour.txt": "# a comment\nred\n\n  green \nred\n",
        "colour-warm.txt": "orange\n",
        "deep/er/animal.txt": "\ufeffcat\n{dog|wolf}\n",
        "deep/things.yaml": _YAML,
        "list.json": '["b", "a"]',
        ".hidden/secret.txt": "secret\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "outside.txt").write_text("outside\n")
    return root


def texts(folder: Path, name: str) -> list[str]:
    return list(WildcardFiles([folder]).now().entries(name).texts)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("colour", ["green", "red"]),
        ("colour*", ["green", "orange", "red"]),
        ("deep/er/animal", ["cat", "{dog|wolf}"]),
        ("deep\\er/animal/", ["cat", "{dog|wolf}"]),
        ("animal", ["cat", "{dog|wolf}"]),
        ("deep/*", ["Eero", "Helene Schjerfbeck", "Pants", "T-shirt", "cat", "one text", "{dog|wolf}"]),
        ("deep/artists/*", ["Eero", "Helene Schjerfbeck"]),
        ("deep/line", ["one text"]),
        ("list", ["a", "b"]),
        ("nothing", []),
        ("secret", []),
        ("*outside*", []),
        ("../outside", []),
        ("deep/../../outside", []),
        ("/etc/passwd", []),
        ("", []),
    ],
)
def test_a_name_means_lists_in_the_folder(folder: Path, name: str, found: list[str]) -> None:
    assert texts(folder, name) == found


def test_weights_are_those_of_the_file(folder: Path) -> None:
    found = WildcardFiles([folder]).now().entries("deep/clothing")
    assert (found.texts, found.weights) == (["Pants", "T-shirt"], [3.0, 1.0])


def test_a_changed_file_is_read_again(folder: Path) -> None:
    files = WildcardFiles([folder])
    before = files.now()
    (folder / "colour.txt").write_text("blue\nwhite\n")
    (folder / "new.txt").write_text("new\n")
    (folder / "list.json").unlink()
    assert list(before.entries("colour").texts) == ["green", "red"]
    now = files.now()
    assert [list(now.entries(name).texts) for name in ("colour", "new", "list")] == [["blue", "white"], ["new"], []]


def test_the_first_folder_goes_first(folder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    (second / "colour.txt").write_text("black\n")
    (second / "more.txt").write_text("more\n")
    lists = WildcardFiles([folder, second, tmp_path / "missing"]).now()
    assert [list(lists.entries(name).texts) for name in ("colour", "more")] == [["green", "red"], ["more"]]


_PAIRS = ("ab", "bc", "cd", "de", "ef", "fg")
_BOMB = "a: &a [" + "x, " * 100 + "x]\n" + "".join(
    f"{b}: &{b} {{" + ", ".join(f"k{n}: *{a}" for n in range(20)) + "}\n" for a, b in _PAIRS
)  # fmt: skip
_MERGED = "a: &a {" + ", ".join(f"k{n}: [x]" for n in range(20)) + "}\n" + "".join(
    f"{b}: &{b} {{<<: [" + ", ".join([f"*{a}"] * 20) + "]}\n" for a, b in _PAIRS
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bomb.yaml", _BOMB.encode()),
        ("merged.yaml", _MERGED.encode()),
        ("lines.yaml", b"\n".join(b" " * n + b"k:" for n in range(500))),
        ("endless.yaml", b"endless: &a {b: *a, c: *a}"),
        ("deep.yaml", b"[" * 200_000),
        ("deep.json", b"[" * 200_000),
        ("python.yaml", b"x: !!python/object/apply:os.system ['true']"),
        ("broken.yaml", b"a: [b"),
        ("broken.json", b"{"),
        ("digits.json", b"[" + b"9" * 5000 + b"]"),
        ("large.txt", b"word\n" * 1_000_000),
        ("number.yaml", b"12"),
    ],
)
def test_a_file_that_cannot_be_read_is_left_out(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    lists = WildcardFiles([folder]).now()
    assert list(lists.entries("colour").texts) == ["green", "red"]
    assert not lists.entries(Path(name).stem).texts


def test_bytes_that_are_no_text_and_odd_items_are_passed_over(folder: Path) -> None:
    (folder / "bytes.txt").write_bytes(b"\xff\xfeok\n\x00\n")
    items = ["a", None, True, 5, {"weight": 2}, {"text": "t", "weight": -1}, {"text": "u", "weight": "x"}]
    (folder / "odd.json").write_text(json.dumps(items))
    assert "ok" in texts(folder, "bytes")
    assert texts(folder, "odd") == ["5", "a"]


def test_the_entries_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wildcards, "MOST_ENTRIES", 5)
    lists = WildcardFiles([folder]).now()
    assert len(lists.entries("*").texts) <= 5


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_block_nothing(folder: Path) -> None:
    os.mkfifo(folder / "pipe.txt")
    assert texts(folder, "pipe") == []
