"""What the OpenAPI document says about the arguments of scripts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from latentd.server.openapi_tidy import REFERENCE
from latentd.server.schemas.generation import Img2ImgJob, Img2ImgRequest, Txt2ImgJob, Txt2ImgRequest
from latentd.types import JsonValue

if TYPE_CHECKING:
    from latentd.generations import AnyScript

_BODIES = (("txt2img", (Txt2ImgRequest, Txt2ImgJob)), ("img2img", (Img2ImgRequest, Img2ImgJob)))
_WORD = re.compile(r"[A-Za-z0-9]+")


def join(schemas: dict[str, JsonValue], scripts: Sequence[AnyScript]) -> None:
    """Describe ``alwayson_scripts`` and ``script_args`` in the bodies of generations, script by script.

    :param schemas: the document's components; the arguments are added to them.
    """
    for mode, bodies in _BODIES:
        offered = [script for script in scripts if mode in script.modes]
        for body in bodies:
            if body.__name__ in schemas:
                _describe(schemas, schemas[body.__name__]["properties"], offered)


def _describe(schemas: dict[str, JsonValue], fields: Mapping[str, JsonValue], scripts: Sequence[AnyScript]) -> None:
    always = {script.title.lower(): _entry(schemas, script) for script in scripts if script.alwayson}
    if always:
        fields["alwayson_scripts"]["anyOf"] = [
            {"type": "object", "properties": always, "additionalProperties": True},
            {"type": "null"},
        ]
    selectable = [script for script in scripts if not script.alwayson]
    if selectable:
        by_name = [{"$ref": _arguments(schemas, script)} for script in selectable]
        anything = [{"type": "array", "items": {}}, {"type": "object", "additionalProperties": True}, {"type": "null"}]
        fields["script_args"]["anyOf"] = by_name + anything


def _entry(schemas: dict[str, JsonValue], script: AnyScript) -> dict[str, JsonValue]:
    """One script of ``alwayson_scripts``: its arguments by name, or by position in the order of their names."""
    reference = _arguments(schemas, script)
    names = ", ".join(schemas[reference.removeprefix(REFERENCE)].get("properties", {}))
    by_position = {"type": "array", "items": {}, "description": f"By position: {names}." if names else "None."}
    return {
        "type": "object",
        "properties": {"args": {"anyOf": [{"$ref": reference}, by_position]}},
        "additionalProperties": True,
    }


def _arguments(schemas: dict[str, JsonValue], script: AnyScript) -> str:
    """The reference of the component with the script's arguments, added if it is not there yet."""
    name = "".join(word[0].upper() + word[1:] for word in _WORD.findall(script.title.replace("'", ""))) + "Arguments"
    if name not in schemas:
        schema = script.Args.model_json_schema(ref_template=REFERENCE + "{model}")
        for key, value in schema.pop("$defs", {}).items():
            schemas.setdefault(key, value)
        schemas[name] = {**schema, "title": name}
    return REFERENCE + name
