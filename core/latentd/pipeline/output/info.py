"""The ``info`` document of a reply (rules: a1111-info)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from latentd.pipeline.output.describe import VERSION_TEXT, uses_inpainting

if TYPE_CHECKING:
    from latentd.pipeline.generation import RunningGeneration
    from latentd.types import JsonValue


def info_document(gen: RunningGeneration, infotexts: Sequence[str], index_of_first_image: int) -> dict[str, JsonValue]:
    """Keys and values in A1111's order; JSON-ready."""
    plan, request, options = gen.plan, gen.request, gen.options
    base, vae = gen.base.info, gen.base.vae
    return {
        "prompt": plan.prompts[0],
        "all_prompts": list(plan.prompts),
        "negative_prompt": plan.negative_prompts[0],
        "all_negative_prompts": list(plan.negative_prompts),
        "seed": plan.seeds[0],
        "all_seeds": list(plan.seeds),
        "subseed": plan.subseeds[0],
        "all_subseeds": list(plan.subseeds),
        "subseed_strength": request.subseed_strength,
        "width": plan.width,
        "height": plan.height,
        "sampler_name": plan.sampler.label,
        "cfg_scale": plan.cfg_scale,
        "steps": plan.steps,
        "batch_size": plan.batch_size,
        "restore_faces": plan.restore_faces,
        "face_restoration_model": options["face_restoration_model"] if plan.restore_faces else None,
        "sd_model_name": base.stem,
        "sd_model_hash": base.hash,
        "sd_vae_name": vae.name if vae else None,
        "sd_vae_hash": vae.hash if vae else None,
        "seed_resize_from_w": request.seed_resize_from_w,
        "seed_resize_from_h": request.seed_resize_from_h,
        "denoising_strength": gen.infotext.get("Denoising strength"),
        "extra_generation_params": dict(gen.infotext),
        "index_of_first_image": index_of_first_image,
        "infotexts": list(infotexts),
        "styles": list(plan.styles),
        "job_timestamp": gen.control.progress.job_timestamp,
        "clip_skip": int(options["CLIP_stop_at_last_layers"]),
        "is_using_inpainting_conditioning": uses_inpainting(gen),
        "version": VERSION_TEXT,
    }


def with_warnings(info: Mapping[str, JsonValue], warnings: Sequence[str]) -> dict[str, JsonValue]:
    """The document, with an entry ``warnings`` at its end if there are any."""
    own = {key: value for key, value in info.items() if key != "warnings"}
    return {**own, "warnings": list(warnings)} if warnings else own
