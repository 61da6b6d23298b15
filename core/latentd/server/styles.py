"""The styles files as they are now."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from threading import Lock

from latentd.prompts.styles import Style
from latentd.prompts.styles_file import load_styles, style_files

log = logging.getLogger(__name__)


class StyleBook:
    """Styles by name; read again when a file has changed."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = list(patterns)
        self._lock = Lock()
        self._stamp: object = None
        self._styles: Mapping[str, Style] = {}

    @property
    def by_name(self) -> Mapping[str, Style]:
        """Every style; those read last where a file cannot be read now."""
        with self._lock:
            stamp = [(path, path.stat().st_mtime_ns) for path in style_files(self._patterns) if path.is_file()]
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._styles = load_styles(self._patterns)
                except (OSError, UnicodeDecodeError, csv.Error) as error:
                    log.warning("styles cannot be read: %s", error)
            return self._styles
