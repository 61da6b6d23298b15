"""From an infotext to a request: fields that the request leaves out, and options to override."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal

from latentd.errors import InvalidRequest
from latentd.infotext.other_names import schedule_name
from latentd.infotext.parse import Infotext
from latentd.infotext.settings import OPTION_SCHEDULES, SETTINGS, Setting, whole

Converter = Callable[[str], object]
Fields = Mapping[str, tuple[str, Converter]]

_SHARED: Fields = {
    "prompt": ("Prompt", str),
    "negative_prompt": ("Negative prompt", str),
    "steps": ("Steps", whole),
    "sampler_name": ("Sampler", str),
    "cfg_scale": ("CFG scale", float),
    "width": ("Size-1", whole),
    "height": ("Size-2", whole),
    "batch_size": ("Batch size", whole),
    "denoising_strength": ("Denoising strength", float),
    "seed": ("Seed", whole),
    "subseed": ("Variation seed", whole),
    "subseed_strength": ("Variation seed strength", float),
    "refiner_checkpoint": ("Refiner", str),
    "refiner_switch_at": ("Refiner switch at", float),
    # In a request, an option of this name is only the field's default, which is read before overrides apply.
    "s_min_uncond": ("NGMS", float),
}
_HIRES: Fields = {
    "hr_scale": ("Hires upscale", float),
    "hr_upscaler": ("Hires upscaler", str),
    "hr_second_pass_steps": ("Hires steps", whole),
    "hr_resize_x": ("Hires resize-1", whole),
    "hr_resize_y": ("Hires resize-2", whole),
    "hr_checkpoint_name": ("Hires checkpoint", str),
    "hr_sampler_name": ("Hires sampler", str),
    "hr_scheduler": ("Hires schedule type", str),
    "hr_prompt": ("Hires prompt", str),
    "hr_negative_prompt": ("Hires negative prompt", str),
}
_IMG2IMG: Fields = {
    "image_cfg_scale": ("Image CFG scale", float),
    "initial_noise_multiplier": ("Noise multiplier", float),
}
#: What nodes that save ComfyUI's pictures write in place of ``Schedule type``.
_COMFYUI_SCHEDULE = "Scheduler"
_FILLS = ("fill", "original", "latent noise", "latent nothing")
_MASK: Fields = {
    "mask_blur": ("Mask blur", whole),
    "inpainting_mask_invert": ("Mask mode", lambda text: int(text == "Inpaint not masked")),
    "inpainting_fill": ("Masked content", _FILLS.index),
    "inpaint_full_res": ("Inpaint area", lambda text: text == "Only masked"),
    "inpaint_full_res_padding": ("Masked area padding", whole),
}


def request_fields(
    infotext: Infotext, mode: Literal["txt2img", "img2img"], given: Collection[str], *, masked: bool = False
) -> dict[str, object]:
    """Request field → value for every field that ``infotext`` names and ``given`` lacks.

    For img2img this fills more fields than AUTOMATIC1111 1.8, which fills only seeds and the refiner there.

    :param given: names of the fields that the request itself contains; those take precedence.
    :param masked: whether the request has a mask; the infotext of a masked picture then says how to use it.
    :raises InvalidRequest: a value is not a number where its field takes one.
    """
    table = {**_SHARED, **(_HIRES if mode == "txt2img" else _IMG2IMG), **_seed_resize(infotext)}
    if mode == "img2img" and masked and any(key in infotext.stated for key, _ in _MASK.values()):
        table |= _MASK
    fields: dict[str, object] = {}
    for name, (key, convert) in table.items():
        value = infotext.values.get(key)
        if value is not None and name not in given:
            fields[name] = _converted(key, value, convert)
    schedule = infotext.get("Schedule type")
    if schedule is None and (other := infotext.get(_COMFYUI_SCHEDULE)) is not None:
        schedule = schedule_name(str(other))
    if schedule is not None and schedule not in OPTION_SCHEDULES and "scheduler" not in given:
        fields["scheduler"] = schedule
    styles = infotext.values.get("Styles array")
    if isinstance(styles, list) and "styles" not in given:
        fields["styles"] = styles
    if mode == "txt2img" and "enable_hr" not in given:
        hires = ("Hires upscale", "Hires upscaler", "Hires resize-1")
        fields["enable_hr"] = "Denoising strength" in infotext.values and any(key in infotext.values for key in hires)
    return fields


def _seed_resize(infotext: Infotext) -> Fields:
    # AUTOMATIC1111 1.8 swaps these two, and pictures made with it depend on that.
    width, height = ("1", "2") if infotext.is_ours else ("2", "1")
    return {
        "seed_resize_from_w": (f"Seed resize from-{width}", whole),
        "seed_resize_from_h": (f"Seed resize from-{height}", whole),
    }


def override_settings(
    infotext: Infotext,
    current: Mapping[str, object],
    given: Collection[str] = (),
    *,
    disable_weights_auto_swap: bool = True,
    settings: Mapping[str, Setting] = SETTINGS,
) -> dict[str, tuple[str, object]]:
    """Option → infotext key and value, for every option that ``infotext`` gives another value than it has now.

    The request's own override_settings take precedence: merge them over the result.

    :param current: option → its present value.
    :param given: names of the fields that the request itself contains.
    :param disable_weights_auto_swap: the option of that name; if true, the checkpoint is not taken over.
    :param settings: infotext key → option; may include options of plugins.
    :raises InvalidRequest: a value is not of its option's type.
    """
    found: dict[str, tuple[str, object]] = {}
    for key, setting in settings.items():
        value = _setting_value(key, infotext, given)
        if value is None or (setting.option == "sd_model_checkpoint" and disable_weights_auto_swap):
            continue
        value = _converted(key, value, setting.convert)
        if value != current.get(setting.option):
            found[setting.option] = key, value
    restorer = infotext.get("Face restoration")
    if restorer not in (None, "True", "False", current.get("face_restoration_model")):
        found["face_restoration_model"] = "Face restoration", restorer
    return found


def _setting_value(key: str, infotext: Infotext, given: Collection[str]) -> object | None:
    value = infotext.values.get(key)
    # In AUTOMATIC1111's texts a missing key means "GPU": the machine on which the picture was made. That is no reason
    # to change the noise source that this server was told to use.
    if key == "RNG" and key not in infotext.stated and not infotext.is_ours:
        return None
    if key == "Schedule type":
        if "scheduler" in given:
            return None
        return value if value in OPTION_SCHEDULES else "Automatic"
    return value


def _converted(key: str, value: object, convert: Converter) -> object:
    try:
        return convert(value if isinstance(value, str) else str(value))
    except ValueError as error:
        raise InvalidRequest(
            f"Infotext has {key}: {value}, which is not a number.", hint="Correct it, or give the field in the request."
        ) from error
