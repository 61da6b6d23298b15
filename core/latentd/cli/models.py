"""``latentd models``: the weight files that a server would offer."""

from __future__ import annotations

import json
from collections.abc import Sequence

from latentd.cli.serve import set_up_logging
from latentd.cli.settings import read_settings
from latentd.settings.parse import CommandParser, flags_parser
from latentd.types import JsonValue

DESCRIPTION = (
    "List the checkpoints, VAEs and networks that are found; the selected checkpoint has a star. "
    "--json prints everything."
)


def run(arguments: Sequence[str]) -> int:
    """Print the lists; returns 1 if there is no checkpoint."""
    mine = json_parser()
    own, rest = mine.parse_known_args(list(arguments))
    settings = read_settings(rest, flags_parser("latentd models", DESCRIPTION, also=mine.spellings))
    set_up_logging(settings, "ERROR")

    from latentd.server.services import create_services

    services = create_services(settings, serve_http=False)
    lists: dict[str, list[dict[str, JsonValue]]] = {
        "checkpoints": services.models.checkpoints.rows(),
        "VAEs": services.models.vaes.rows(),
        "LoRAs": services.lora_rows(),
        "hypernetworks": services.hypernetwork_rows(),
    }
    if own.json:
        print(json.dumps(lists, indent=2))
    else:
        selected = services.models.current.filename if lists["checkpoints"] else None
        print(table(lists, selected))
        if not lists["checkpoints"]:
            print(f"put a checkpoint into {services.paths.models('Stable-diffusion')[0]}")
    return 0 if lists["checkpoints"] else 1


def json_parser() -> CommandParser:
    """A parser of ``--json`` alone; another one reads the other arguments."""
    parser = CommandParser("latentd models", add_help=False)
    parser.add_argument("--json", action="store_true", help="print the lists as JSON")
    return parser


def table(lists: dict[str, list[dict[str, JsonValue]]], selected: str | None) -> str:
    """The lists as text, one file a line; ``selected`` is the file of the selected checkpoint."""
    lines = []
    for kind, rows in lists.items():
        lines.append(f"{kind}: {len(rows) or 'none'}")
        for row in rows:
            name = row.get("title") or row.get("model_name") or row.get("name")
            place = row.get("filename") or row.get("path")
            lines.append(f"  {'*' if place == selected else ' '} {name}  ({place})")
    return "\n".join(lines)
