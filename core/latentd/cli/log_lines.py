"""Log lines that clients, files and plugins cannot forge: each record is one line, whatever text is in it."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from latentd.logged_job import job_of
from latentd.types import JsonValue

#: Before each line of a traceback or stack, so that none reads as a record of its own.
_INDENT = "    "


class LogLines(logging.Formatter):
    """Writes each record as one line, and its traceback indented below it.

    Characters that control a terminal, break lines or are invisible are written as Python escapes.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, and below it its traceback and stack. What other handlers left in it is not used."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        lines = [escaped(self.formatMessage(record))]
        if record.exc_info:
            lines.append(_indented(self.formatException(record.exc_info)))
        if record.stack_info:
            lines.append(_indented(self.formatStack(record.stack_info)))
        return "\n".join(lines)


class JsonLines(logging.Formatter):
    """Writes each record as one line of JSON: ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message``.

    Where there is one, also ``job`` (the job's id), ``trace_id`` (where a plugin gives the record this attribute),
    ``status`` and ``seconds`` of a request, ``traceback``, ``stack``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record's line. All that is not ASCII is escaped, line ends in texts included."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, JsonValue] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "job": job_of(record),
            "trace_id": getattr(record, "trace_id", None),
            "status": getattr(record, "status", None),
            "seconds": getattr(record, "seconds", None),
            "traceback": self.formatException(record.exc_info) if record.exc_info else None,
            "stack": self.formatStack(record.stack_info) if record.stack_info else None,
        }
        return json.dumps({key: value for key, value in entry.items() if value is not None}, default=repr)


def escaped(text: str) -> str:
    """``text`` with everything that is not printed as a character (line ends included) written as Python escapes."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode("ascii")
        for char in text
    )


def _indented(text: str) -> str:
    return "\n".join(_INDENT + escaped(line) for line in text.split("\n"))
