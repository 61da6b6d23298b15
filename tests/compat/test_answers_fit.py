"""Every answer to a GET is what the OpenAPI document says it is: generated clients read it by that."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compat.contract import get
from tests.reference_server import ReferenceServer

jsonschema = pytest.importorskip("jsonschema_rs")


def described(document: dict[str, Any], path: str) -> dict[str, Any]:
    """The schema of a path's JSON reply, with the components it refers to."""
    content = document["paths"][path]["get"]["responses"]["200"].get("content", {})
    schema: dict[str, Any] = content["application/json"]["schema"]
    return {**schema, "components": document["components"]}


def answers_json(operation: dict[str, Any]) -> bool:
    """Whether the operation answers in JSON; the metrics are a text."""
    return "application/json" in operation["responses"]["200"].get("content", {})


def test_every_get_without_a_parameter_answers_what_is_described(reference_server: ReferenceServer) -> None:
    document = get(reference_server, "/openapi.json")
    gets = {path: methods["get"] for path, methods in document["paths"].items() if "get" in methods}
    paths = [path for path, operation in gets.items() if "{" not in path and answers_json(operation)]
    assert len(paths) > 25
    wrong = {}
    for path in paths:
        answer = get(reference_server, path)
        errors = [
            f"{'/'.join(map(str, error.instance_path))}: {error.message}"
            for error in jsonschema.Draft202012Validator(described(document, path)).iter_errors(answer)
        ]
        if errors:
            wrong[path] = errors[:5]
    assert wrong == {}


def test_what_is_described_has_fields(reference_server: ReferenceServer) -> None:
    """No GET is left with "anything" or "an object", but for an empty answer and facts that differ by machine."""
    document = get(reference_server, "/openapi.json")
    bare = []
    for path, methods in document["paths"].items():
        content = methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        if schema is not None and not {"$ref", "items", "anyOf"} & set(schema):
            bare.append(path)
    assert sorted(bare) == ["/internal/ping", "/internal/sysinfo", "/internal/sysinfo-download"]
