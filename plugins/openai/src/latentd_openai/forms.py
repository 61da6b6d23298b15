"""Bodies of edits and variations: forms with files, as OpenAI's clients send them, or JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from latentd.api import JsonValue
from latentd_openai.errors import refusal
from latentd_openai.pictures import Source, text_of

if TYPE_CHECKING:
    from fastapi import Request

T = TypeVar("T", bound=BaseModel)
#: Most files and fields of a form: OpenAI's clients send 16 pictures at most.
MOST_FILES, MOST_FIELDS = 20, 100
_LONGEST_FIELD = 1 << 20
_PICTURES = ("image", "image[]", "images", "images[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given(Generic[T]):
    """A body: its parameters, and its pictures as they came."""

    parameters: T
    images: list[Source]
    mask: Source | None


async def read(request: Request, model: type[T]) -> Given[T]:
    """The body of ``request``.

    :raises HTTPException: it is neither form nor JSON, or too much of a form.
    :raises RequestValidationError: a parameter is wrong.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return await _form(request, model)
    return await _json(request, model)


async def _form(request: Request, model: type[T]) -> Given[T]:
    files: dict[str, list[Source]] = {"image": [], "mask": []}
    fields: dict[str, JsonValue] = {}
    form = request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=_LONGEST_FIELD)
    async with form as items:
        for name, value in items.multi_items():
            target = "image" if name in _PICTURES else name
            if not isinstance(value, str):
                if target not in files:
                    raise refusal(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
                files[target].append(await value.read())
            elif target in files:
                files[target].append(text_of(value, target))
            else:
                fields[name] = value
    if len(files["mask"]) > 1:
        raise refusal("there can be one 'mask'", param="mask")
    return Given(parameters=_checked(model, fields), images=files["image"], mask=next(iter(files["mask"]), None))


async def _json(request: Request, model: type[T]) -> Given[T]:
    try:
        fields = await request.json()
    except (ValueError, RecursionError):
        raise refusal("the body is neither a form nor JSON", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise refusal("the body is not a JSON object", code="invalid_json")
    parameters: Any = _checked(model, fields)
    given = [*(parameters.image or ()), *(getattr(parameters, "images", None) or ())]
    mask = getattr(parameters, "mask", None)
    return Given(
        parameters=parameters,
        images=[text_of(value, "image") for value in given],
        mask=None if mask is None else text_of(mask, "mask"),
    )


def _checked(model: type[T], fields: dict[str, JsonValue]) -> T:
    from fastapi.exceptions import RequestValidationError

    try:
        return model.model_validate(fields)
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        raise RequestValidationError(faults) from None
