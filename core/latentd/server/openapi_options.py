"""What the OpenAPI document says about options and command-line flags: one field each."""

from __future__ import annotations

import json

from latentd.contributions import OptionSpec
from latentd.options import OptionStore
from latentd.server.openapi_tidy import REFERENCE
from latentd.settings import Settings
from latentd.settings.flag import Flag, declared_flags
from latentd.types import JsonValue

_FLAG_KINDS = {"switch": "boolean", "integer": "integer", "number": "number", "text": "string", "json": "object"}


def join(document: dict[str, JsonValue], options: OptionStore) -> None:
    """Add the components ``Options`` and ``Flags``, and have their routes refer to them."""
    schemas, paths = document["components"]["schemas"], document["paths"]
    schemas["Options"] = {
        "type": "object",
        "title": "Options",
        "description": "Every option. A request names those that it changes.",
        "properties": {spec.key: option_schema(spec) for spec in options.specs()},
        "examples": [{"sd_model_checkpoint": "v1-5-pruned-emaonly.safetensors", "CLIP_stop_at_last_layers": 2}],
    }
    flags = {name: flag_schema(*declared) for name, declared in declared_flags(Settings).items() if declared[0].listed}
    schemas["Flags"] = {
        "type": "object",
        "title": "Flags",
        "description": "Every command-line flag; a secret is *** where it is set.",
        "properties": flags,
    }
    _refer(paths["/sdapi/v1/options"]["get"]["responses"]["200"], "Options")
    _refer(paths["/sdapi/v1/options"]["post"]["requestBody"], "Options")
    _refer(paths["/sdapi/v1/cmd-flags"]["get"]["responses"]["200"], "Flags")


def option_schema(spec: OptionSpec) -> dict[str, JsonValue]:
    """The schema of one option's value.

    The default is only part of the description: generated clients send every field that has a default, which would
    reset each option that the caller does not name.
    """
    described = f"{spec.help} (default: {json.dumps(spec.default)})"
    schema: dict[str, JsonValue] = {"type": _option_type(spec), "description": described}
    if schema["type"] == "array":
        schema["items"] = {}
    if spec.minimum is not None:
        schema["minimum"] = spec.minimum
    if spec.maximum is not None:
        schema["maximum"] = spec.maximum
    return _or_null(schema) if spec.nullable or spec.default is None else schema


def flag_schema(flag: Flag, default: JsonValue) -> dict[str, JsonValue]:
    """The schema of one flag's value in ``/sdapi/v1/cmd-flags``: a text if the flag has no default."""
    if flag.kind == "texts":
        return _or_null({"type": "array", "items": {"type": "string"}, "description": flag.help})
    kind = "string" if default is None else _FLAG_KINDS[flag.kind]
    schema = {"type": kind, "description": flag.help}
    return _or_null(schema) if default is None else schema


def _option_type(spec: OptionSpec) -> str:
    default = spec.default
    if isinstance(default, bool):
        return "boolean"
    if isinstance(default, int | float):
        # As in AUTOMATIC1111, a whole number whose default is not 0 is answered as a float.
        return "integer" if isinstance(default, int) and default == 0 else "number"
    return "array" if isinstance(default, list) else "object" if isinstance(default, dict) else "string"


def _or_null(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    described = schema.pop("description")
    return {"anyOf": [schema, {"type": "null"}], "description": described}


def _refer(part: dict[str, JsonValue], name: str) -> None:
    content = part["content"]["application/json"]
    described = {key: value for key, value in content.get("schema", {}).items() if key == "examples"}
    content["schema"] = {"$ref": REFERENCE + name, **described}
