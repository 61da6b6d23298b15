"""The styles files, read again when they change."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

from latentd.prompts.styles import Style
from latentd.prompts.styles_file import StylesError, load_styles, read_styles, style_files
from latentd.regular import is_regular

log = logging.getLogger(__name__)


class StyleBook:
    """Styles by name; read again when a file has changed."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = list(patterns)
        self._lock = Lock()
        self._stamp: object = None
        self._read: dict[Path, list[Style]] = {}
        self._styles: Mapping[str, Style] = {}

    @property
    def by_name(self) -> Mapping[str, Style]:
        """Every style. If a file cannot be read, its styles stay as last read, and the log says why."""
        with self._lock:
            stamp = [(path, path.stat().st_mtime_ns) for path in style_files(self._patterns) if is_regular(path)]
            if stamp != self._stamp:
                self._stamp = stamp
                self._styles = load_styles(self._patterns, self._read_or_remember)
            return self._styles

    def _read_or_remember(self, path: Path) -> list[Style]:
        try:
            self._read[path] = read_styles(path)
        except StylesError as error:
            log.warning("styles of %s cannot be read: %s", path, error)
        return self._read.get(path, [])
