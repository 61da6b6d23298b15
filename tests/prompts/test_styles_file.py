from __future__ import annotations

from pathlib import Path

import pytest

from latentd.prompts.styles import Style
from latentd.prompts.styles_file import StylesError, load_styles, parse_styles, read_styles


def test_rows_become_styles() -> None:
    text = '\ufeffname,prompt,negative_prompt\nshiny,"{prompt}, shaded", blurry\n#note,x,y\n,x,y\nshort,only\n'
    assert [(style.name, style.prompt, style.negative_prompt) for style in parse_styles(text)] == [
        ("shiny", "{prompt}, shaded", "blurry"),
        ("short", "only", ""),
    ]


def test_the_old_header_is_read() -> None:
    assert parse_styles("name,text\nold,some text\n") == [Style(name="old", prompt="some text")]


def test_a_file_as_automatic1111_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "styles.csv"
    path.write_bytes(b'\xef\xbb\xbfname,prompt,negative_prompt\r\na,"x, ""y""\nz",n\r\nb,,\r\n')
    loaded = load_styles([path])
    assert (loaded["a"].prompt, loaded["a"].negative_prompt, loaded["a"].path) == ('x, "y"\nz', "n", str(path))
    assert set(loaded) == {"a", "b"}


def test_several_files_are_divided_and_the_last_of_equal_names_counts(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.csv").write_text(f"name,prompt\nsame,{name}\n{name},\n")
    styles = load_styles([tmp_path / "*.csv", tmp_path / "one.csv", tmp_path / "missing.csv"])
    dividers = [name for name, style in styles.items() if style.prompt is None and style.negative_prompt is None]
    assert dividers == [" ONE ".center(40, "-"), " TWO ".center(40, "-"), " MISSING ".center(40, "-")]
    assert styles["same"].prompt == "two"


def test_a_missing_file_has_no_styles(tmp_path: Path) -> None:
    assert load_styles([tmp_path / "none.csv"]) == {}


ROW = ("a", "red; blue, green", "bad")


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("first", ["", "sep={}\n", "SEP={}\r\n", '"sep={}"\n'])
@pytest.mark.parametrize(
    "header",
    ["name{0}prompt{0}negative_prompt", "\nName{0}Prompt{0}Negative Prompt", '"name"{0} "prompt"{0}"negative-prompt"'],
)
def test_what_spreadsheets_write_is_read(mark: str, first: str, header: str) -> None:
    text = first.format(mark) + header.format(mark) + "\n" + mark.join(f'"{cell}"' for cell in ROW) + "\n"
    assert [(s.name, s.prompt, s.negative_prompt) for s in parse_styles(text)] == [ROW]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_encodings_are_told_apart(tmp_path: Path, encoding: str, ending: str) -> None:
    path = tmp_path / "styles.csv"
    path.write_bytes(ending.join(("name,prompt,negative_prompt", "café,Ü – “x”,é", "")).encode(encoding))
    assert [(s.name, s.prompt, s.negative_prompt) for s in read_styles(path)] == [("café", "Ü – “x”", "é")]


def test_long_fields_are_read() -> None:
    assert parse_styles(f"name,prompt\na,{'x' * 300_000}\n")[0].prompt == "x" * 300_000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"prompt,negative_prompt\na,b\n", "no column 'name'"),
        (b"a;b;c\n", "no column 'name'"),
        (b"<html>\n", "no column 'name'"),
        (b"name,prompt\n\xff\x81\x8d,x\n", "neither UTF-8"),
        (b"\xff\xfen\x00a", "neither UTF-8|no column"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "styles.csv"
    path.write_bytes(data)
    with pytest.raises(StylesError, match=reason):
        read_styles(path)


def test_an_empty_file_has_no_styles(tmp_path: Path) -> None:
    for data in (b"", b"\xef\xbb\xbf\r\n", b"name,prompt,negative_prompt"):
        (tmp_path / "styles.csv").write_bytes(data)
        assert read_styles(tmp_path / "styles.csv") == []
