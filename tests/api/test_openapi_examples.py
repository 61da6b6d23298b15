"""The examples in the OpenAPI document: every body has one, and each is what the schema beside it says."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from tests.api.test_openapi_snapshot import SNAPSHOT

DOCUMENT: dict[str, Any] = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
WITH_EXAMPLES = sorted(name for name, schema in SCHEMAS.items() if schema.get("examples"))


def names(schema: dict[str, Any]) -> list[str]:
    """The components that a body may be."""
    return [one["$ref"].rpartition("/")[2] for one in schema.get("anyOf", [schema])]


def test_every_body_has_an_example() -> None:
    bodies = [
        (path, operation["requestBody"]["content"]["application/json"]["schema"])
        for path, operations in DOCUMENT["paths"].items()
        for operation in operations.values()
        if "requestBody" in operation
    ]
    assert len(bodies) > 7
    assert [path for path, schema in bodies for name in names(schema) if name not in WITH_EXAMPLES] == []


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_an_example_fits_its_schema(name: str) -> None:
    # References lead into the document, as they do in it.
    whole = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    for example in SCHEMAS[name]["examples"]:
        jsonschema.Draft202012Validator(whole).validate(example)
        known = SCHEMAS[name]["properties"]
        assert [key for key in example if key not in known] == [], "a field that does not exist"


@pytest.mark.parametrize("name", ["JobAccepted", "Job", "JobEvent", "Ticket", "TextToImageResponse", "ErrorResponse"])
def test_replies_have_examples(name: str) -> None:
    assert name in WITH_EXAMPLES
