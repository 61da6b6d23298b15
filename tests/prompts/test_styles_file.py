from __future__ import annotations

from pathlib import Path

from latentd.prompts.styles import Style
from latentd.prompts.styles_file import load_styles, parse_styles, save_styles


def test_rows_become_styles() -> None:
    text = '\ufeffname,prompt,negative_prompt\nshiny,"{prompt}, shaded", blurry\n#note,x,y\n,x,y\nshort,only\n'
    assert [(style.name, style.prompt, style.negative_prompt) for style in parse_styles(text)] == [
        ("shiny", "{prompt}, shaded", "blurry"),
        ("short", "only", ""),
    ]


def test_the_old_header_is_read() -> None:
    assert parse_styles("name,text\nold,some text\n") == [Style(name="old", prompt="some text")]


def test_saving_keeps_a_backup_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "styles.csv"
    first, second = Style(name="a", prompt='x, "y"\nz', negative_prompt="n"), Style(name="b")
    save_styles([first], path)
    save_styles([first, second], path)
    assert path.read_bytes().startswith(b"\xef\xbb\xbfname,prompt,negative_prompt\r\n")
    assert set(load_styles([tmp_path / "styles.csv.bak"])) == {"a"}
    loaded = load_styles([path])
    assert (loaded["a"].prompt, loaded["a"].path) == ('x, "y"\nz', str(path))
    assert set(loaded) == {"a", "b"}


def test_several_files_are_divided_and_the_last_of_equal_names_counts(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_styles([Style(name="same", prompt=name), Style(name=name)], tmp_path / f"{name}.csv")
    styles = load_styles([tmp_path / "*.csv", tmp_path / "one.csv", tmp_path / "missing.csv"])
    dividers = [name for name, style in styles.items() if style.is_divider]
    assert dividers == [" ONE ".center(40, "-"), " TWO ".center(40, "-"), " MISSING ".center(40, "-")]
    assert styles["same"].prompt == "two"


def test_dividers_are_not_saved(tmp_path: Path) -> None:
    save_styles([Style(name="-- X --", prompt=None, negative_prompt=None), Style(name="a")], tmp_path / "s.csv")
    assert set(load_styles([tmp_path / "s.csv"])) == {"a"}


def test_a_missing_file_has_no_styles(tmp_path: Path) -> None:
    assert load_styles([tmp_path / "none.csv"]) == {}
