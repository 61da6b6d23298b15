"""A picture's infotext, and the values for file names."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from latentd import __version__
from latentd.infotext.build import build_infotext
from latentd.infotext.fields import InfotextFields
from latentd.infotext.versions import OWN_VERSION
from latentd.options.store import CORE
from latentd.prompts.filenames import FileContext

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.generations import Plan
    from latentd.options import OptionStore
    from latentd.pipeline.generation import RunningGeneration
    from latentd.services import Services
    from latentd.settings import Settings
    from latentd.types import JsonValue, OptionValues

VERSION_TEXT = f"{OWN_VERSION}{__version__}"


def describe(gen: RunningGeneration, index: int, *, of_job: bool = False) -> str:
    """The infotext of picture ``index`` of the current batch, or of the job as a whole (its first picture)."""
    # Scripts import this module through the public face when the server starts, which must not wait for torch.
    from latentd.pipeline.passes.image_conditioning import image_guidance

    plan, options, batch = gen.plan, gen.options, gen.current
    assert batch is not None
    if of_job or index >= len(batch.prompts):
        prompt, negative = plan.prompts[0], plan.negative_prompts[0]
        seed, subseed, own = plan.seeds[0], plan.subseeds[0], plan.own_infotext[:1]
    else:
        prompt, negative = batch.prompts[index], batch.negative_prompts[index]
        seed, subseed = batch.seeds[index], batch.subseeds[index]
        number = batch.index * plan.batch_size + batch.first + index
        own = plan.own_infotext[number : number + 1]
    extra = {**_plugin_options(gen), **gen.infotext, **(own[0] if own else {}), **gen.hooks.infotext(gen, index)}
    fields = InfotextFields(
        steps=plan.steps,
        sampler=plan.sampler.label,
        schedule_type=None if plan.sampler.scheduler is None else plan.sampler.scheduler.label,
        cfg_scale=plan.cfg_scale,
        image_cfg_scale=image_guidance(gen),
        seed=seed,
        face_restoration=options["face_restoration_model"] if plan.restore_faces else None,
        size=(plan.width, plan.height),
        **model_facts(gen),
        subseed=subseed,
        subseed_strength=gen.request.subseed_strength,
        seed_resize_from=(gen.request.seed_resize_from_w, gen.request.seed_resize_from_h),
        denoising_strength=extra.get("Denoising strength"),
        conditional_mask_weight=float(options["inpainting_mask_weight"]) if uses_inpainting(gen) else None,
        clip_skip=int(options["CLIP_stop_at_last_layers"]),
        ensd=_ensd(gen),
        token_merging_ratio=_merging(gen),
        token_merging_ratio_hr=_merging(gen, hires=True) if plan.hires is not None else 0.0,
        init_image_hash=extra.get("Init image hash"),
        rng=options["randn_source"],
        ngms=plan.s_min_uncond,
        tiling=plan.tiling,
        extra=extra,
        version=VERSION_TEXT if options["add_version_to_infotext"] else None,
    )
    return build_infotext(prompt, negative, fields.ordered())


def _plugin_options(gen: RunningGeneration) -> dict[str, JsonValue]:
    """Options of plugins that differ from their defaults, by their infotext keys."""
    store: OptionStore = gen.services.options
    specs = [spec for spec in store.specs() if spec.infotext and store.owner(spec.key) != CORE]
    return {str(spec.infotext): gen.options[spec.key] for spec in specs if gen.options[spec.key] != spec.default}


def model_facts(gen: RunningGeneration) -> dict[str, JsonValue]:
    """Names and hashes of checkpoint and VAE, as far as options ask for them."""
    options = gen.options
    info, vae = gen.base.info, gen.base.vae
    return {
        "model_hash": info.hash if options["add_model_hash_to_info"] else None,
        "model": info.stem if options["add_model_name_to_info"] else None,
        "fp8_weight": options["fp8_storage"] if gen.base.is_fp8 else None,
        "cache_fp16_weight": bool(options["cache_fp16_weight"]) if gen.base.is_fp8 else None,
        "vae": vae.name if vae and options["add_vae_name_to_info"] else None,
        "vae_hash": vae.hash if vae and options["add_vae_hash_to_info"] else None,
    }


def uses_inpainting(gen: RunningGeneration) -> bool:
    """Whether the checkpoint is an inpainting model; as in AUTOMATIC1111, one of SDXL counts only in img2img."""
    hires, weight = gen.plan.hires, float(gen.options["inpainting_mask_weight"])
    from_picture = hires is not None and (hires.latent_mode is None or weight < 1.0)
    return bool(gen.base.is_inpainting and (not gen.base.is_sdxl or gen.plan.is_img2img or from_picture))


def _ensd(gen: RunningGeneration) -> int:
    """The delta if it is to be written: if the first pass's sampler and eta use it, or if noise was drawn with it."""
    plan, options = gen.plan, gen.options
    eta = plan.eta if plan.eta is not None else options["eta_ancestral"]
    written = (plan.sampler.spec.uses_ensd and eta) or gen.used_ensd
    return int(options["eta_noise_seed_delta"] or 0) if written else 0


def _merging(gen: RunningGeneration, *, hires: bool = False) -> float:
    from latentd.pipeline.passes.token_merging import token_merging_ratio

    return token_merging_ratio(gen.options, img2img=gen.plan.is_img2img, hires=hires)


def file_context(
    gen: RunningGeneration, image: Image, index: int, *, now: datetime.datetime, grid: bool = False
) -> FileContext:
    """The values for file-name patterns, for picture ``index`` of the current batch or for the grid."""
    plan, batch, options = gen.plan, gen.current, gen.options
    assert batch is not None
    first = grid or index >= len(batch.seeds)
    facts = model_facts(gen)
    info, vae = gen.base.info, gen.base.vae
    return FileContext(
        now=now,
        prompt=plan.prompts[0] if first else batch.prompts[index],
        negative_prompt=plan.negative_prompts[0] if first else batch.negative_prompts[index],
        seed=plan.seeds[0] if first else batch.seeds[index],
        seeds=plan.seeds,
        steps=plan.steps,
        cfg_scale=plan.cfg_scale,
        width=image.width,
        height=image.height,
        styles=plan.styles,
        style_prompts=style_prompts(plan, gen.services),
        sampler=plan.sampler.label,
        scheduler=plan.sampler.scheduler.label if plan.sampler.scheduler else None,
        model_hash=facts["model_hash"] or info.hash,
        model_name=info.stem,
        vae_file=vae.name if vae else None,
        clip_skip=int(options["CLIP_stop_at_last_layers"]),
        denoising_strength=gen.infotext.get("Denoising strength"),
        batch_size=plan.batch_size,
        batch_index=index,
        n_iter=plan.n_iter,
        iteration=batch.index,
        job_timestamp=gen.control.progress.job_timestamp,
        image_bytes=image.tobytes,
        **name_limits(gen.services.settings, options),
    )


def style_prompts(plan: Plan, services: Services) -> list[str]:
    """The positive texts of the plan's styles."""
    known = services.styles.by_name
    return [known[name].prompt or "" for name in plan.styles if name in known]


def name_limits(settings: Settings, options: OptionValues) -> dict[str, JsonValue]:
    """The fields of :class:`FileContext` about allowed characters and lengths of names."""
    return {
        "max_words": int(options["directories_max_prompt_words"]),
        "max_length": settings.filenames_max_length,
        "unix": settings.unix_filenames_sanitization,
    }
