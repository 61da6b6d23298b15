"""What holds of every prompt, pattern and styles file: no exception but those that are documented, and round trips."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from itertools import pairwise
from pathlib import PurePosixPath

import pytest

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from latentd.errors import InvalidRequest
from latentd.prompts.attention import parse_attention
from latentd.prompts.composition import split_composition
from latentd.prompts.editing import schedule, segment_at
from latentd.prompts.filenames import FileContext, expand, relative_folder
from latentd.prompts.networks import extract_networks
from latentd.prompts.styles import Style, apply_style_text
from latentd.prompts.styles_file import StylesError, parse_styles

TRIES = settings(max_examples=150, deadline=None, derandomize=True, database=None)
_MARKS = [
    "(",
    ")",
    "[",
    "]",
    ":",
    "|",
    "\\",
    "BREAK",
    " AND ",
    "AND",
    "<lora:",
    ">",
    "0.5",
    "1e9",
    "-1",
    "::",
    ",",
    "\n",
    "a",
]
#: Texts of which the grammar's marks make up the most.
PROMPTS = st.lists(st.one_of(st.sampled_from(_MARKS), st.text(max_size=3)), max_size=30).map("".join)
WORDS = st.text(st.characters(exclude_characters="()[]\\", exclude_categories=["Cs"]), min_size=1, max_size=12)
NAMES = [
    "seed",
    "prompt",
    "prompt_words",
    "date",
    "datetime<%Y>",
    "datetime",
    "styles",
    "model_name",
    "sampler",
    "hasprompt<a>",
]
PATTERNS = st.lists(
    st.one_of(
        st.sampled_from([f"[{name}]" for name in NAMES]), st.sampled_from(list("[]<>/\\.%:~")), st.text(max_size=4)
    ),
    max_size=12,
).map("".join)


@TRIES
@given(PROMPTS)
def test_attention_gives_pieces_whatever_the_text(prompt: str) -> None:
    try:
        pieces = parse_attention(prompt)
    except InvalidRequest:
        return
    assert pieces
    assert all(one.weight != other.weight for one, other in pairwise(pieces))
    assert parse_attention(prompt, "None")[0].text == prompt


@TRIES
@given(WORDS.filter(lambda word: "BREAK" not in word and ":" not in word), st.sampled_from(["0.5", "1.3", "2"]))
def test_attention_of_one_word_is_its_weight(word: str, weight: str) -> None:
    (piece,) = parse_attention(f"({word}:{weight})")
    assert (piece.text, piece.weight) == (word, float(weight))


@TRIES
@given(WORDS.filter(lambda word: "BREAK" not in word))
def test_escaped_brackets_are_text(word: str) -> None:
    text = "".join(piece.text for piece in parse_attention(rf"\({word}\)\[{word}\]"))
    assert text == f"({word})[{word}]"


@TRIES
@given(PROMPTS, st.integers(1, 200), st.one_of(st.none(), st.integers(1, 200)), st.booleans())
def test_editing_covers_every_step_whatever_the_text(prompt: str, steps: int, hires: int | None, old: bool) -> None:
    segments = schedule(prompt, steps, hires, old)
    ends = [segment.end_at_step for segment in segments]
    assert ends == sorted(set(ends))
    assert ends[-1] == (steps if hires is None or old else hires)
    assert segment_at(segments, 0) in segments
    if not set(prompt) & set("[]"):
        assert len(segments) == 1


@TRIES
@given(WORDS, WORDS, st.integers(1, 19))
def test_an_edit_switches_at_its_step(before: str, after: str, step: int) -> None:
    before, after = (word.translate(str.maketrans("", "", ":|#")).strip() or "x" for word in (before, after))
    assert [(s.end_at_step, s.text) for s in schedule(f"[{before}:{after}:{step}]", 20)] == [
        (step, before),
        (20, after),
    ]


@TRIES
@given(PROMPTS)
def test_composition_gives_a_part_for_each_and(prompt: str) -> None:
    parts = split_composition(prompt)
    assert parts
    assert split_composition(" AND ".join(["a:0.5", "b", "c:2"]))[0].weight == 0.5
    assert all(isinstance(part.weight, float) for part in parts)


@TRIES
@given(PROMPTS)
def test_networks_leave_a_text_without_tags(prompt: str) -> None:
    text, tags = extract_networks(prompt)
    assert len(text) <= len(prompt)
    assert (text == prompt) == (not tags)


@TRIES
@given(PROMPTS.filter(lambda text: "<" not in text and ">" not in text), st.integers(0, 3))
def test_tags_put_in_come_out(prompt: str, count: int) -> None:
    text, tags = extract_networks(prompt + "".join(f"<lora:name{i}:0.{i}:te={i}>" for i in range(count)))
    assert text == prompt
    assert [(tag.positional, tag.named) for tag in tags] == [
        ((f"name{i}", f"0.{i}"), {"te": str(i)}) for i in range(count)
    ]


CONTEXT = {"now": datetime(2024, 1, 2, 3, 4, 5), "seed": 1, "seeds": (1,), "model_name": "m", "sampler": "Euler"}


@TRIES
@given(PATTERNS, PROMPTS)
def test_no_pattern_leaves_its_folder(pattern: str, prompt: str) -> None:
    context = FileContext(prompt=prompt, styles=(prompt,), **CONTEXT)  # type: ignore[arg-type]
    expand(pattern, context)
    folder = relative_folder(pattern, context)
    assert not folder.is_absolute()
    assert ".." not in folder.parts
    assert PurePosixPath("/data") in (PurePosixPath("/data") / folder / "x").parents


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
TABLES = st.lists(st.sampled_from([*',;"\t\r\n|#', "name", "prompt", "sep=;"]), max_size=20).map("".join)
STYLE_NAMES = CELLS.filter(lambda name: name.strip() and not name.lstrip().startswith("#"))
STYLES = st.lists(st.builds(Style, name=STYLE_NAMES, prompt=CELLS, negative_prompt=CELLS), max_size=5)


@TRIES
@given(STYLES)
def test_styles_come_back_as_they_were_written(styles: list[Style]) -> None:
    # Spaces at the beginning of a cell are skipped, as spreadsheets put them behind commas.
    def plain(style: Style) -> tuple[str, ...]:
        return tuple((text or "").lstrip(" ") for text in (style.name, style.prompt, style.negative_prompt))

    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(("name", "prompt", "negative_prompt"))
    writer.writerows((style.name, style.prompt, style.negative_prompt) for style in styles)
    assert [plain(style) for style in parse_styles(file.getvalue())] == [plain(style) for style in styles]


@TRIES
@given(st.one_of(CELLS, TABLES))
def test_no_styles_file_raises_anything_else(text: str) -> None:
    for head in ("", "name,prompt,negative_prompt\n", "sep=;\nname;prompt\n"):
        try:
            styles = parse_styles(head + text)
        except StylesError:
            continue
        assert all(style.name for style in styles)


@TRIES
@given(CELLS, CELLS)
def test_a_style_holds_the_prompt(style: str, prompt: str) -> None:
    assert prompt.strip() in apply_style_text(style, prompt) or "{prompt}" not in style
