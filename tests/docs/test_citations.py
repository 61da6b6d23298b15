"""What comments and docstrings cite is in the repository: pages, and sections by the names of their anchors."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FOLDERS = ("core", "plugins", "tests", "tools", "benchmarks")
SECTION = re.compile(r"\ba1111-[a-z0-9-]+")
PAGE = re.compile(r"(?:[\w-]+/)*[\w-]+\.md\b(?!5)")
OUTSIDE = re.compile(r"\b(?:semantics|endpoints|controlnet|options|design)(?:\.md)?,? (?:§ ?)?S?\d|[Ss]ections? \d")
"""Numbered sections: no page of the repository numbers its own."""


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            if not {"node_modules", "build", ".venv"} & set(path.parts) and path != Path(__file__):
                yield path


def cites(text: str) -> bool:
    """Whether ``text`` has anything in it that could cite something."""
    return ".md" in text or "a1111-" in text or OUTSIDE.search(text) is not None


def words_about_code(path: Path) -> Iterator[tuple[int, str]]:
    """The comments and string literals that could cite something, docstrings among them, each with its line."""
    text = path.read_text(encoding="utf-8")
    if not cites(text):
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING) and cites(token.string):
            yield token.start[0], token.string


@pytest.fixture(scope="module")
def citations() -> list[tuple[str, str]]:
    """(place, text) of every comment and string that could cite something."""
    return [(f"{path.relative_to(ROOT)}:{line}", text) for path in sources() for line, text in words_about_code(path)]


def anchors() -> set[str]:
    pages = [path for path in DOCS.rglob("*.md") if "_build" not in path.parts]
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    return set(re.findall(r"^\(([a-z0-9-]+)\)=$", text, re.MULTILINE)) | {path.stem for path in pages}


def test_sections_that_comments_name_exist(citations: list[tuple[str, str]]) -> None:
    known = anchors()
    named = [(place, name) for place, text in citations for name in SECTION.findall(text)]
    assert len(named) > 40
    assert [(place, name) for place, name in named if name not in known] == []


def test_pages_that_comments_name_exist(citations: list[tuple[str, str]]) -> None:
    known = {path.name for path in ROOT.glob("*.md")} | {path.name for path in DOCS.rglob("*.md")}
    known |= {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")}
    named = [(place, name) for place, text in citations for name in PAGE.findall(text)]
    assert [(place, name) for place, name in named if Path(name).name not in known] == []


def test_no_comment_cites_a_numbered_section(citations: list[tuple[str, str]]) -> None:
    assert [(place, text[:80]) for place, text in citations if OUTSIDE.search(text)] == []


def test_each_section_of_the_rules_is_named_once() -> None:
    pages = [path.read_text(encoding="utf-8") for path in (DOCS / "explanation").glob("a1111-*.md")]
    labels = [label for text in pages for label in re.findall(r"^\(([a-z0-9-]+)\)=$", text, re.MULTILINE)]
    assert sorted(labels) == sorted(set(labels))
    assert len(labels) > 40
