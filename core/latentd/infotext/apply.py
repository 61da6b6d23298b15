"""From parsed infotext to a request: fields it leaves out, and options it overrides."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal

from latentd.errors import InvalidRequest
from latentd.infotext.settings import SETTINGS, Setting

Converter = Callable[[str], object]

_SHARED: Mapping[str, tuple[str, Converter]] = {
    "prompt": ("Prompt", str),
    "negative_prompt": ("Negative prompt", str),
    "steps": ("Steps", int),
    "sampler_name": ("Sampler", str),
    "cfg_scale": ("CFG scale", float),
    "width": ("Size-1", int),
    "height": ("Size-2", int),
    "batch_size": ("Batch size", int),
    "denoising_strength": ("Denoising strength", float),
    "seed": ("Seed", int),
    "subseed": ("Variation seed", int),
    "subseed_strength": ("Variation seed strength", float),
    # AUTOMATIC1111 1.8 has these two the wrong way round, and pictures made with it depend on that
    "seed_resize_from_h": ("Seed resize from-1", int),
    "seed_resize_from_w": ("Seed resize from-2", int),
    "refiner_checkpoint": ("Refiner", str),
    "refiner_switch_at": ("Refiner switch at", float),
}
_HIRES: Mapping[str, tuple[str, Converter]] = {
    "hr_scale": ("Hires upscale", float),
    "hr_upscaler": ("Hires upscaler", str),
    "hr_second_pass_steps": ("Hires steps", int),
    "hr_resize_x": ("Hires resize-1", int),
    "hr_resize_y": ("Hires resize-2", int),
    "hr_checkpoint_name": ("Hires checkpoint", str),
    "hr_sampler_name": ("Hires sampler", str),
    "hr_prompt": ("Hires prompt", str),
    "hr_negative_prompt": ("Hires negative prompt", str),
}


def request_fields(
    parameters: Mapping[str, object], mode: Literal["txt2img", "img2img"], given: Collection[str]
) -> dict[str, object]:
    """Request field → value for every field that ``parameters`` (a parsed infotext) name and ``given`` lacks.

    For img2img this fills more than AUTOMATIC1111 1.8, which knew only seeds and refiner there.

    :param given: names of the fields that the request states itself; those win.
    :raises InvalidRequest: a value is not the number that its field takes.
    """
    table = {**_SHARED, **_HIRES} if mode == "txt2img" else _SHARED
    fields: dict[str, object] = {}
    for name, (key, convert) in table.items():
        value = parameters.get(key)
        if value is not None and name not in given:
            fields[name] = _converted(key, value, convert)
    styles = parameters.get("Styles array")
    if isinstance(styles, list) and "styles" not in given:
        fields["styles"] = styles
    if mode == "txt2img" and "enable_hr" not in given:
        hires = ("Hires upscale", "Hires upscaler", "Hires resize-1")
        fields["enable_hr"] = "Denoising strength" in parameters and any(key in parameters for key in hires)
    return fields


def override_settings(
    parameters: Mapping[str, object],
    current: Mapping[str, object],
    *,
    disable_weights_auto_swap: bool = True,
    settings: Mapping[str, Setting] = SETTINGS,
) -> dict[str, object]:
    """Option → value for every option that ``parameters`` (a parsed infotext) name with another value than now.

    What the request's own override_settings say wins: merge those over the result.

    :param current: option → its present value.
    :param disable_weights_auto_swap: the option of that name; when true the checkpoint is not taken over.
    :param settings: infotext key → option; plugins' options may be added.
    :raises InvalidRequest: a value is not of its option's type.
    """
    found: dict[str, object] = {}
    for key, setting in settings.items():
        value = parameters.get(key)
        if value is None or (setting.option == "sd_model_checkpoint" and disable_weights_auto_swap):
            continue
        value = _converted(key, value, setting.convert)
        if value != current.get(setting.option):
            found[setting.option] = value
    return found


def _converted(key: str, value: object, convert: Converter) -> object:
    try:
        return convert(value if isinstance(value, str) else str(value))
    except ValueError as error:
        raise InvalidRequest(
            f"Infotext has {key}: {value}, which is not a number.", hint="Correct it, or give the field in the request."
        ) from error
