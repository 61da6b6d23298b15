"""Styles files that change while the server runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from latentd.server.styles import StyleBook


def test_a_file_that_cannot_be_read_is_named_and_the_others_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "styles_bad.csv"
    good.write_text("name,prompt\nfine,x\n")
    bad.write_text("name,prompt\nkept,x\n")
    book = StyleBook([str(tmp_path / "*.csv")])
    assert {"fine", "kept"} <= set(book.by_name)
    assert caplog.records == []
    good.write_text("name,prompt\nfiner,x\n")
    bad.write_text("no,header\n1,2\n")
    for path in (good, bad):
        os.utime(path, (1, 1))
    with caplog.at_level(logging.WARNING):
        styles = book.by_name
    assert {"finer", "kept"} <= set(styles)
    assert "fine" not in styles
    (record,) = caplog.records
    assert str(bad) in record.getMessage()
    assert "no column 'name'" in record.getMessage()
    assert book.by_name is styles
