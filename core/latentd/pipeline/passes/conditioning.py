"""From a batch's prompts to conditioning: networks of tags, text encoders, and the conditioning of a refiner."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from torch import Tensor

from latentd.conditioning.encode import TextConditioner, TextSettings
from latentd.conditioning.schedule import Conditioning, Padding, Timetable, build_conditioning, encode_scheduled
from latentd.errors import InvalidRequest
from latentd.models.vae import circular_padding
from latentd.pipeline.generation import ConditionedOn, running
from latentd.pipeline.passes.bundled_embeddings import bundled
from latentd.pipeline.passes.denoiser import ModelView
from latentd.pipeline.passes.extra_networks import lay_over
from latentd.pipeline.passes.refiner import Refiner
from latentd.pipeline.passes.runner import enter_runner
from latentd.plugins.blame import blamed, owner_of
from latentd.prompts.editing import schedule
from latentd.prompts.networks import NetworkTag, extract_networks

if TYPE_CHECKING:
    from latentd.generations import Generation
    from latentd.models.loaded import LoadedModel
    from latentd.pipeline.generation import Batch, RunningGeneration
    from latentd.types import OptionValues


_EMPHASIS = ("(", "[", "\\", "BREAK")
"""What option ``emphasis`` reads in prompts; AUTOMATIC1111 looks only for the first two when it writes infotexts."""


def activate_networks(gen: RunningGeneration, prompts: Sequence[str], stack: ExitStack) -> None:
    """Activate exactly the networks in the tags of the first prompt; functions for ending them go to ``stack``.

    Every kind of network is called, even with no tags, so that networks of an earlier job are removed.
    """
    tags: Sequence[NetworkTag] = ()
    if prompts and not gen.request.disable_extra_networks:
        tags = extract_networks(prompts[0])[1]
    gen.network_hooks = []
    registry = gen.services.registry.extra_networks
    for name in registry:
        spec = registry[name]
        mine = [t for t in tags if t.name == spec.name or t.name in spec.aliases]
        with blamed(owner_of(gen.services.registry.extra_networks, spec.name), f"extra network {spec.name!r}"):
            cleanup = spec.activate(gen, mine)
        if cleanup is not None:
            stack.callback(cleanup)


def condition_batch(
    gen: RunningGeneration,
    prompts: Sequence[str],
    negatives: Sequence[str],
    *,
    steps: int,
    hires_steps: int | None = None,
    size: tuple[int, int],
) -> Conditioning:
    """Conditioning of a batch with the model in use; also writes the infotext entries of AUTOMATIC1111.

    :param steps: total steps of the first pass.
    :param hires_steps: total steps of the second pass if the conditioning is for that, else None.
    :param size: width and height of the pass in pixels, for SDXL.
    """
    texts = [extract_networks(p)[0] for p in prompts]
    timetable = Timetable(steps=steps, hires_steps=hires_steps, use_old=bool(gen.options["use_old_scheduling"]))
    gen.conditioned_on = ConditionedOn(
        prompts=prompts, negatives=negatives, steps=steps, hires_steps=hires_steps, size=size
    )
    conditioning = build_conditioning(
        conditioner_of(gen, gen.model),
        texts,
        negatives,
        text_settings(gen.options, size, networks=tuple(r.key() for r in gen.networks)),
        timetable,
        padding=_padding(gen),
        check=gen.leave_if_cancelled,
    )
    _note(gen, [*texts, *negatives], timetable, conditioning)
    gen.conditioning = conditioning
    gen.hooks.modify_conditioning(gen)
    return gen.conditioning


def encode_prompt(generation: Generation, text: str) -> Callable[[int], Tensor]:
    """A further text as conditioning of the present pass, for ``modify_conditioning`` and later.

    It is encoded as a prompt: with the model in use and its networks, emphasis, embeddings and prompt editing. Tags of
    networks are taken out, and it is not split at AND.

    :return: what gives the context [n,width] for a call of the model: :attr:`latentd.types.UNetCall.call_index`.
    :raises InvalidRequest: no pass has been conditioned yet; or weights are so large that the result is not finite.
    """
    gen = running(generation)
    now = gen.conditioned_on
    if now is None:
        raise InvalidRequest("a text is encoded for a pass alone")
    timetable = Timetable(steps=now.steps, hires_steps=now.hires_steps, use_old=bool(gen.options["use_old_scheduling"]))
    scheduled = encode_scheduled(
        conditioner_of(gen, gen.model),
        extract_networks(text)[0],
        text_settings(gen.options, now.size, networks=tuple(r.key() for r in gen.networks)),
        timetable,
        check=gen.leave_if_cancelled,
    )[0]
    return lambda call: scheduled.at(call).context


def conditioner_of(gen: RunningGeneration, model: LoadedModel) -> TextConditioner:
    """The model's own text conditioner, created at its first use.

    It caches encodings from job to job unless option ``persistent_cond_cache`` is off.
    """
    conditioner = model.conditioning
    if not isinstance(conditioner, TextConditioner):
        conditioner = model.conditioning = TextConditioner(model, gen.services.embeddings)
    if not gen.options["persistent_cond_cache"] and not gen.forgot_conditioning:
        gen.forgot_conditioning = True
        conditioner.clear()
    conditioner.bundled = bundled(model)
    return conditioner


def model_view(
    gen: RunningGeneration, model: LoadedModel, conditioning: Conditioning, *, concat: Tensor | None
) -> ModelView:
    """The parts of the model in use that the denoiser needs."""
    return ModelView(
        evaluate=model.unet_runner.evaluate,
        conditioning=conditioning,
        prediction=model.prediction_type,
        concat=concat,
    )


def refiner_for(gen: RunningGeneration, batch: Batch) -> Refiner | None:
    """The refiner of this pass, or None."""
    plan = gen.plan.refiner
    if plan is None:
        return None

    def switch(concat: Tensor | None) -> ModelView:
        base = gen.model
        refiner = gen.lease(plan.checkpoint)
        gen.leases.enter_context(circular_padding(refiner, gen.plan.tiling))
        gen.infotext["Refiner"] = refiner.info.short_title
        gen.infotext["Refiner switch at"] = plan.switch_at
        lay_over(gen, refiner, gen.networks if refiner.family == base.family else ())
        gen.in_use = refiner
        enter_runner(gen, refiner)
        again = gen.conditioned_on
        assert again is not None, "a refiner follows a base model"
        conditioning = condition_batch(
            gen, again.prompts, again.negatives, steps=again.steps, hires_steps=again.hires_steps, size=again.size
        )
        same_inputs = refiner.unet_in_channels == base.unet_in_channels
        view = model_view(gen, refiner, conditioning, concat=concat if same_inputs else None)
        view.refiner = True
        return view

    return Refiner(plan, switch)


def text_settings(options: OptionValues, size: tuple[int, int], *, networks: Hashable = None) -> TextSettings:
    """What ``options`` say of encoding texts for a pass of ``size``, width and height in pixels."""
    return TextSettings(
        clip_skip=int(options["CLIP_stop_at_last_layers"]),
        sdxl_clip_l_skip=bool(options["sdxl_clip_l_skip"]),
        emphasis=str(options["emphasis"]),
        comma_padding_backtrack=int(options["comma_padding_backtrack"]),
        use_old_emphasis_implementation=bool(options["use_old_emphasis_implementation"]),
        width=size[0],
        height=size[1],
        sdxl_crop_top=int(options["sdxl_crop_top"]),
        sdxl_crop_left=int(options["sdxl_crop_left"]),
        sdxl_refiner_high_aesthetic_score=float(options["sdxl_refiner_high_aesthetic_score"]),
        sdxl_refiner_low_aesthetic_score=float(options["sdxl_refiner_low_aesthetic_score"]),
        networks=networks,
    )


def _padding(gen: RunningGeneration) -> Padding:
    if gen.options["pad_cond_uncond_v0"]:
        return "v0"
    return "empty" if gen.options["pad_cond_uncond"] else "none"


def _note(gen: RunningGeneration, texts: Sequence[str], timetable: Timetable, conditioning: Conditioning) -> None:
    options = gen.options
    if timetable.use_old:
        both = [[schedule(t, timetable.steps, timetable.hires_steps, old) for t in texts] for old in (False, True)]
        if both[0] != both[1]:
            gen.infotext["Old prompt editing timelines"] = True
    # The infotext has the embeddings of the first pass and its own checkpoint only, as in AUTOMATIC1111.
    first = gen.pass_name == "base" and gen.model.info is gen.base.info
    if first and options["textual_inversion_add_hashes_to_infotext"]:
        hashes = [f"{_plain(e.name)}: {e.short_hash}" for e in conditioning.used if e.short_hash]
        if hashes:
            gen.infotext["TI hashes"] = ", ".join(hashes)
    if options["emphasis"] != "Original" and any(mark in text for text in texts for mark in _EMPHASIS):
        gen.infotext["Emphasis"] = options["emphasis"]


def _plain(name: str) -> str:
    return name.replace(":", "").replace(",", "")
