"""Names and titles in an OpenAPI document: exactly one for each component."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable

from latentd.types import JsonValue

REFERENCE = "#/components/schemas/"
_PLAIN = re.compile(r"[^a-z0-9]")
_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
_WORD = re.compile(r"[A-Za-z0-9]+")


def tidy(document: dict[str, JsonValue]) -> None:
    """Give each component one name, which is also its title; remove the titles that pydantic makes of field names.

    Generators name classes by titles: two components with one title would become one class, and a title inside a
    component would become a class of its own. A title that was written by its author stays if no class comes of it.

    An enumeration with values of several types becomes one enumeration for each type. One in which a value has no
    letter or digit gets names for its values, since generators can make none of signs. A choice between any value and a
    certain type is removed, because it says nothing. Descriptions are Markdown, so code in them gets single backticks.
    """
    schemas = document["components"]["schemas"]
    titles = Counter(schema.get("title", name) for name, schema in schemas.items())
    names = {}
    for name, schema in schemas.items():
        title = schema.get("title", name)
        free = titles[title] == 1 and (title == name or title not in schemas)
        names[name] = _UNFIT.sub("_", title if free else name)
    for part in (*schemas.values(), document["paths"]):
        _walk(part, lambda node: _rename(node, names))
        _walk(part, _drop_titles)
        _walk(part, _sort_enum)
        _walk(part, _name_signs)
        _walk(part, _drop_empty_choice)
        _walk(part, _to_markdown)
    document["components"]["schemas"] = {
        names[name]: {**schemas[name], "title": names[name]} for name in sorted(schemas, key=lambda name: names[name])
    }


def _walk(node: JsonValue, visit: Callable[[dict[str, JsonValue]], None]) -> None:
    if isinstance(node, dict):
        visit(node)
        for key, value in node.items():
            if key not in ("example", "examples", "default"):
                _walk(value, visit)
    elif isinstance(node, list):
        for value in node:
            _walk(value, visit)


def _rename(node: dict[str, JsonValue], names: dict[str, str]) -> None:
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith(REFERENCE):
        node["$ref"] = REFERENCE + names[reference.removeprefix(REFERENCE)]


def _drop_titles(node: dict[str, JsonValue]) -> None:
    properties = node.get("properties")
    for field, schema in properties.items() if isinstance(properties, dict) else ():
        # A field may be called "properties" itself: its values are then no schemas.
        title = schema.get("title") if isinstance(schema, dict) else None
        if title is not None and (_plain(title) == _plain(field) or not _is_scalar(schema)):
            del schema["title"]
    # Parameters and bodies of operations: {"name": ..., "schema": ...} and {"application/json": {"schema": ...}}.
    if isinstance(node.get("schema"), dict):
        node["schema"].pop("title", None)


def _sort_enum(node: dict[str, JsonValue]) -> None:
    values = node.get("enum")
    if not isinstance(values, list) or len({type(value) for value in values}) < 2:
        return
    del node["enum"]
    node.pop("type", None)
    kinds = {_JSON_TYPES[type(value)]: None for value in values}
    of = {kind: [value for value in values if _JSON_TYPES[type(value)] == kind] for kind in kinds}
    node["anyOf"] = [{"type": kind} if kind == "null" else {"type": kind, "enum": of[kind]} for kind in kinds]


def _name_signs(node: dict[str, JsonValue]) -> None:
    values = node.get("enum")
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        return
    if any(value and not _WORD.search(value) for value in values):
        node["x-enum-varnames"] = [_identifier(value) for value in values]


def _identifier(value: str) -> str:
    """``FirstLine`` for ``First Line``, ``LeftSquareBracket`` for ``[``."""
    signs = " ".join(unicodedata.name(sign, "") for sign in value if sign != " ").lower()
    return "".join(word[0].upper() + word[1:] for word in _WORD.findall(value) or _WORD.findall(signs))


def _drop_empty_choice(node: dict[str, JsonValue]) -> None:
    if {} in node.get("anyOf", ()):
        del node["anyOf"]


def _to_markdown(node: dict[str, JsonValue]) -> None:
    for key in ("summary", "description"):
        if isinstance(node.get(key), str):
            node[key] = node[key].replace("``", "`")


def _is_scalar(schema: dict[str, JsonValue]) -> bool:
    return schema.get("type") in ("string", "number", "integer", "boolean") and "enum" not in schema


def _plain(text: str) -> str:
    return _PLAIN.sub("", text.lower())
