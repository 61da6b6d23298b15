"""The request by which one region is repainted: img2img with its mask, and the values of the unit or of the job."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentd.api import GenerationRequest, JsonValue, Plan, Services
from latentd_detailer.options import MATCHED
from latentd_detailer.unit import NONE, Unit

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd_detailer.masks import Box

_ORIGINAL = 1
_CONTROLNET = "ControlNet"
_PASSTHROUGH = "Passthrough"
_SAME = (None, "", NONE, "Use same checkpoint", "Use same VAE")
_SAME_SAMPLER, _SAME_SCHEDULER = "Use same sampler", "Use same scheduler"
#: The preprocessor for a control model whose name has the word.
_MODULES = {
    "inpaint": "inpaint_global_harmonious",
    "scribble": "t2ia_sketch_pidi",
    "lineart": "lineart_coarse",
    "openpose": "openpose_full",
    "tile": "tile_resample",
    "depth": "depth_midas",
}
#: Scripts that always take part in repainted regions, beside those of option ``ad_script_names``.
_ALWAYS = ("soft_inpainting", "hypertile")
#: Names in that option, which are those of the originals' files → the beginnings of titles.
_TITLES = {"dynamicprompting": "dynamicprompts"}
#: Sizes that SDXL was trained on.
_SDXL_SIZES = (
    (1024, 1024), (1152, 896), (896, 1152), (1216, 832), (832, 1216), (1344, 768), (768, 1344),
    (1536, 640), (640, 1536),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One region of one picture.

    :ivar size: width and height at which it is repainted.
    :ivar strength: the denoising strength.
    """

    image: Image
    mask: Image
    prompt: str
    negative_prompt: str
    seed: int
    subseed: int
    size: tuple[int, int]
    strength: float


def repaint_request(plan: Plan, unit: Unit, steps: int, task: Task, services: Services) -> GenerationRequest:
    """The request for one region.

    :param steps: those of the job, for units without their own.
    """
    outer = plan.request
    sampler, scheduler = _sampler(outer, unit)
    return GenerationRequest(
        mode="img2img",
        init_images=(task.image,),
        mask=task.mask,
        mask_blur=unit.ad_mask_blur,
        inpainting_fill=_ORIGINAL,
        inpaint_full_res=unit.ad_inpaint_only_masked,
        inpaint_full_res_padding=unit.ad_inpaint_only_masked_padding,
        denoising_strength=task.strength,
        initial_noise_multiplier=unit.ad_noise_multiplier if unit.ad_use_noise_multiplier else None,
        prompt=task.prompt,
        negative_prompt=task.negative_prompt,
        # As in the original, styles are applied to a unit's own prompts and once more to the picture's.
        styles=outer.styles,
        seed=task.seed,
        subseed=task.subseed,
        subseed_strength=outer.subseed_strength,
        seed_resize_from_h=outer.seed_resize_from_h,
        seed_resize_from_w=outer.seed_resize_from_w,
        sampler_name=sampler,
        sampler_index=outer.sampler_index,
        scheduler=scheduler,
        steps=unit.ad_steps if unit.ad_use_steps else steps,
        cfg_scale=unit.ad_cfg_scale if unit.ad_use_cfg_scale else plan.cfg_scale,
        width=task.size[0],
        height=task.size[1],
        restore_faces=unit.ad_restore_face,
        tiling=plan.tiling,
        disable_extra_networks=outer.disable_extra_networks,
        override_settings=_overrides(unit),
        alwayson_scripts=_scripts(plan, unit, services),
    )


def repaint_size(
    unit: Unit, asked: tuple[int, int], picture: tuple[int, int], box: Box | None, match: JsonValue
) -> tuple[int, int]:
    """Width and height at which a region is repainted.

    A picture that is repainted whole keeps its size, while the original takes that of the first pass of hires fix.

    :param asked: those of the request.
    :param picture: those of the picture that is detailed.
    :param box: that of the region, if it is one thing.
    :param match: option ``ad_match_inpaint_bbox_size``.
    """
    own = (unit.ad_inpaint_width, unit.ad_inpaint_height) if unit.ad_use_inpaint_width_height else None
    if not unit.ad_inpaint_only_masked:
        return own or picture
    size = own or asked
    if box is None or match == MATCHED[0] or box[2] <= box[0] or box[3] <= box[1]:
        return size
    return _trained_size(size, box) if match == MATCHED[1] else _matching_size(size, box)


def repaint_strength(unit: Unit, box: Box | None, picture: tuple[int, int], power: float) -> float:
    """The denoising strength for a region; with option ``ad_dynamic_denoise_power`` it depends on its size."""
    if box is None or power == 0:
        return unit.ad_denoising_strength
    share = min((box[2] - box[0]) * (box[3] - box[1]) / (picture[0] * picture[1]), 0.999)
    return min(float(unit.ad_denoising_strength * (1 - share) ** power), 1.0)


def _trained_size(size: tuple[int, int], box: Box) -> tuple[int, int]:
    """The size among SDXL's with the box's aspect ratio that is not smaller than the box; else ``size``."""
    width, height = box[2] - box[0], box[3] - box[1]
    fitting = [
        one for one in _SDXL_SIZES
        if one[0] >= width and one[1] >= height and (one[0] >= size[0] or one[1] >= size[1])
    ]  # fmt: skip
    return min(fitting, key=lambda one: abs(one[0] / one[1] - width / height)) if fitting else size


def _matching_size(size: tuple[int, int], box: Box) -> tuple[int, int]:
    """The size with the box's aspect ratio whose longer side is that of ``size``, up to multiples of 8."""
    ratio, longest = (box[2] - box[0]) / (box[3] - box[1]), max(size)
    width, height = (longest, longest / ratio) if ratio > 1 else (longest * ratio, longest)
    return max(int(-(-width // 8)) * 8, 8), max(int(-(-height // 8)) * 8, 8)


def _sampler(outer: GenerationRequest, unit: Unit) -> tuple[str | None, str | None]:
    if not unit.ad_use_sampler:
        return outer.sampler_name, outer.scheduler
    name = outer.sampler_name if unit.ad_sampler == _SAME_SAMPLER else unit.ad_sampler
    return name, outer.scheduler if unit.ad_scheduler == _SAME_SCHEDULER else unit.ad_scheduler


def _overrides(unit: Unit) -> dict[str, JsonValue]:
    """The options that the unit sets over those of the job."""
    found: dict[str, JsonValue] = {}
    if unit.ad_use_clip_skip:
        found["CLIP_stop_at_last_layers"] = unit.ad_clip_skip
    if unit.ad_use_checkpoint and unit.ad_checkpoint not in _SAME:
        found["sd_model_checkpoint"] = unit.ad_checkpoint
    if unit.ad_use_vae and unit.ad_vae not in _SAME:
        found["sd_vae"] = unit.ad_vae
    return found


def _scripts(plan: Plan, unit: Unit, services: Services) -> dict[str, JsonValue]:
    """The always-on scripts of a repaint: those of the job that options let through, and the unit's control."""
    found = {
        title: entry
        for title, entry in plan.request.alwayson_scripts.items()
        if _takes_part(title, plan, unit, services)
    }
    if unit.ad_controlnet_model not in (NONE, "", _PASSTHROUGH):
        control = {
            "model": unit.ad_controlnet_model,
            "module": _module(unit),
            "weight": unit.ad_controlnet_weight,
            "guidance_start": unit.ad_controlnet_guidance_start,
            "guidance_end": unit.ad_controlnet_guidance_end,
            "control_mode": "Balanced",
            "pixel_perfect": True,
        }
        found[_CONTROLNET] = {"args": [control]}
    return found


def _takes_part(title: str, plan: Plan, unit: Unit, services: Services) -> bool:
    script = services.registry.scripts.find(title)
    if script is None or "img2img" not in script.modes:
        return False
    known = {_plain(name) for name in (script.title, *script.aliases)}
    if "adetailer" in known:
        return False
    if _CONTROLNET.lower() in known:
        return unit.ad_controlnet_model == _PASSTHROUGH
    if not plan.options["ad_only_selected_scripts"]:
        return True
    listed = {_plain(name) for name in (*str(plan.options["ad_script_names"]).split(","), *_ALWAYS)} - {""}
    return any(one.startswith(_TITLES.get(name, name)) for one in known for name in listed)


def _module(unit: Unit) -> str:
    """The preprocessor that the unit names, or that fits the name of its control model."""
    if unit.ad_controlnet_module != NONE:
        return unit.ad_controlnet_module
    word = re.search("|".join(_MODULES), unit.ad_controlnet_model)
    return _MODULES[word[0]] if word else "none"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
