"""From a request to a plan, without side effects and quickly. Every 4xx of a generation is raised here."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from latentd.errors import InvalidRequest, NotConfigured, NotFound
from latentd.generations import LATENT_DOWNSCALE, Plan, RefinerPlan
from latentd.images.resize import LATENT
from latentd.pipeline.planning.checkpoint_choice import find_checkpoint
from latentd.pipeline.planning.hires_plan import plan_hires
from latentd.pipeline.planning.limits import check_init_count, check_plan, check_request
from latentd.pipeline.planning.sampler_choice import choose_sampler
from latentd.pipeline.planning.script_calls import plan_scripts
from latentd.pipeline.planning.unknown_names import check_networks, option_networks, unknown_names
from latentd.plugins.catalogue import package_hint
from latentd.prompts.comments import strip_comments
from latentd.prompts.networks import extract_networks
from latentd.prompts.styles import apply_styles
from latentd.types import GenerationRequest

if TYPE_CHECKING:
    from latentd.pipeline.needs import PlanningServices
    from latentd.types import JsonValue, OptionValues

MAX_RANDOM_SEED = 4294967294
_NO_CHECKPOINT = (None, "", "None", "none")


def build_plan(request: GenerationRequest, services: PlanningServices) -> Plan:
    """The plan for ``request`` with the present options.

    :raises LatentdError: a 4xx in AUTOMATIC1111's words: unknown names, impossible sizes, invalid script arguments.
    """
    check_request(request, services.settings)
    options = services.options.snapshot(request.override_settings)
    warnings = [*request.warnings, *ignored_overrides(options.ignored), *unknown_names(request, services, options)]
    if request.firstpass_image is not None and not (request.mode == "txt2img" and request.enable_hr):
        warnings.append("firstpass_image has no effect without hires fix")
    width, height = _first_pass_size(request, options)
    _check_sizes(request, width, height)
    checkpoint = _checkpoint(request, services, options)
    sampler = choose_sampler(
        services, request.sampler_name or request.sampler_index or "Euler", request.scheduler, warnings
    )
    prompts, negative = _prompts(request, services, options)
    count = len(prompts)
    seed, subseed = fixed_seed(request.seed), fixed_seed(request.subseed)
    infotext: dict[str, JsonValue] = {}
    # AUTOMATIC1111 1.8 fills these before it applies override_settings, so that overrides of them have no effect.
    standing = services.options
    hires = plan_hires(request, services, options, sampler, (width, height), count, infotext, warnings)
    plan = Plan(
        request=request,
        options=options,
        checkpoint=checkpoint,
        prompts=prompts,
        negative_prompts=negative,
        seeds=tuple(seed + (i if request.subseed_strength == 0 else 0) for i in range(count)),
        subseeds=tuple(subseed + i for i in range(count)),
        width=width,
        height=height,
        steps=request.steps,
        cfg_scale=request.cfg_scale,
        batch_size=_batch_size(request),
        n_iter=request.n_iter,
        sampler=sampler,
        denoising_strength=_strength(request),
        restore_faces=_restores_faces(request, services, options),
        tiling=bool(options["tiling"] if request.tiling is None else request.tiling),
        eta=request.eta,
        s_min_uncond=float(_given(request.s_min_uncond, standing["s_min_uncond"])),
        s_churn=float(_given(request.s_churn, standing["s_churn"])),
        s_tmin=float(_given(request.s_tmin, standing["s_tmin"])),
        s_tmax=float(_given(request.s_tmax, standing["s_tmax"])) or math.inf,
        s_noise=float(_given(request.s_noise, standing["s_noise"])),
        initial_noise_multiplier=float(_given(request.initial_noise_multiplier, standing["initial_noise_multiplier"])),
        hires=hires,
        refiner=_refiner(request, services),
        infotext=infotext,
        styles=tuple(request.styles),
        warnings=tuple(warnings),
    )
    check_plan(plan, services.settings)
    return check_networks(plan_scripts(plan, services), services)


def ignored_overrides(ignored: Mapping[str, str]) -> list[str]:
    """A sentence for each of ``override_settings`` that has no effect."""
    return [f"override_settings: {key!r} has no effect: {reason}" for key, reason in ignored.items()]


def fixed_seed(seed: int | None) -> int:
    """``seed``, or a random one in AUTOMATIC1111's range for -1 and None."""
    if seed is None or seed == -1:
        return secrets.randbelow(MAX_RANDOM_SEED)
    return int(seed)


def _checkpoint(request: GenerationRequest, services: PlanningServices, options: OptionValues) -> str:
    """The title of the checkpoint of option ``sd_model_checkpoint``, or of the selected one if that does not exist.

    :raises NotFound: the request's override names a checkpoint that does not exist.
    """
    wanted = options.get("sd_model_checkpoint")
    if wanted in _NO_CHECKPOINT:
        return str(services.models.current.title)
    found = services.models.named(str(wanted))
    if found is None and request.override_settings.get("sd_model_checkpoint") == wanted:
        services.models.checkpoints.require(str(wanted), fuzzy=False)
    return str((found or services.models.current).title)


def _first_pass_size(request: GenerationRequest, options: OptionValues) -> tuple[int, int]:
    if request.mode == "txt2img" and (request.firstphase_width or request.firstphase_height):
        return request.firstphase_width, request.firstphase_height
    if request.enable_hr and options["use_old_hires_fix_width_height"]:
        scale = math.sqrt(512 * 512 / max(request.width * request.height, 1))
        return math.ceil(scale * request.width / 64) * 64, math.ceil(scale * request.height / 64) * 64
    return request.width, request.height


def _check_sizes(request: GenerationRequest, width: int, height: int) -> None:
    if width < LATENT_DOWNSCALE or height < LATENT_DOWNSCALE:
        raise InvalidRequest(
            f"width and height must be at least {LATENT_DOWNSCALE}, not {width}x{height}",
            hint="with firstphase_width or firstphase_height both must be given",
        )
    if request.mode == "img2img":
        if not request.init_images:
            raise NotFound("Init image not found")
        check_init_count(len(request.init_images), request.batch_size)
        only_masked = request.mask is not None and request.inpaint_full_res
        if request.resize_mode == LATENT and not only_masked and len({i.size for i in request.init_images}) > 1:
            raise InvalidRequest("with resize_mode 3 all init_images must have one size", hint="use resize_mode 0")


def _batch_size(request: GenerationRequest) -> int:
    """The batch size: several init images make a batch of as many pictures."""
    count = len(request.init_images)
    return count if request.mode == "img2img" and count > 1 else request.batch_size


def _strength(request: GenerationRequest) -> float | None:
    """``denoising_strength``, or 0.75 if a pass needs one and none is given; values out of range are cut when used."""
    if request.denoising_strength is None and (request.mode == "img2img" or request.enable_hr):
        return 0.75
    return request.denoising_strength


def _prompts(
    request: GenerationRequest, services: PlanningServices, options: OptionValues
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Prompts and negative prompts of all pictures, with styles merged, comments removed, networks of options added."""
    listed = _listed(request.prompt), _listed(request.negative_prompt)
    count = next((len(x) for x in listed if x is not None), request.batch_size * request.n_iter)
    prompts, negatives = (
        list(x) if x is not None else [str(text)] * count
        for x, text in zip(listed, (request.prompt, request.negative_prompt), strict=True)
    )
    if len(prompts) != len(negatives):
        raise InvalidRequest(
            f"Received a different number of prompts ({len(prompts)}) and negative prompts ({len(negatives)})"
        )
    if not prompts:
        raise InvalidRequest("the list of prompts is empty")
    styles = services.styles.by_name
    pairs = [apply_styles(p, n, request.styles, styles) for p, n in zip(prompts, negatives, strict=True)]
    if options["enable_prompt_comments"]:
        pairs = [(strip_comments(p), strip_comments(n)) for p, n in pairs]
    return tuple(_with_option_networks(p, services, options) for p, _ in pairs), tuple(n for _, n in pairs)


def _listed(text: str | Sequence[str]) -> Sequence[str] | None:
    return None if isinstance(text, str) else text


def _with_option_networks(prompt: str, services: PlanningServices, options: OptionValues) -> str:
    """``prompt`` with the networks of options ``sd_lora`` and ``sd_hypernetwork`` added unless it names them."""
    multiplier = options["extra_networks_default_multiplier"]
    for key, kind, known in option_networks(services):
        name = options[key]
        if not name or name == "None" or known(name) is None:
            continue
        named = {tag.positional[0] for tag in extract_networks(prompt)[1] if tag.name == kind and tag.positional}
        if name not in named:
            prompt += f"<{kind}:{name}:{multiplier}>"
    return prompt


def _refiner(request: GenerationRequest, services: PlanningServices) -> RefinerPlan | None:
    if request.refiner_checkpoint in _NO_CHECKPOINT:
        return None
    found = find_checkpoint(services, str(request.refiner_checkpoint))
    return RefinerPlan(checkpoint=found.title, switch_at=request.refiner_switch_at)


def _restores_faces(request: GenerationRequest, services: PlanningServices, options: OptionValues) -> bool:
    wanted = bool(options["face_restoration"] if request.restore_faces is None else request.restore_faces)
    if not wanted:
        return False
    name = options["face_restoration_model"]
    restorer = services.registry.face_restorers.find(name)
    if restorer is None:
        raise NotConfigured(
            f"Face restorer {name!r} not found",
            hint=package_hint("face restorer", name) or "restore_faces needs a plugin",
        )
    restorer.check()
    return True


def _given(value: float | None, default: float) -> float:
    return default if value is None else value
