"""Carrying a plan out on the worker: batches, pictures, the reply."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from PIL import Image

from latentd.atomic import write_atomically
from latentd.errors import Interrupted
from latentd.generations import LATENT_DOWNSCALE, Img2imgInit, Img2imgStart
from latentd.models.vae import circular_padding
from latentd.networks.hypertile import hypertile_notes
from latentd.pipeline.generation import BaseModel, Batch, RunningGeneration
from latentd.pipeline.img2img import sample_img2img, start_img2img
from latentd.pipeline.img2img_init import prepare
from latentd.pipeline.job_hooks import JobHooks, script_place
from latentd.pipeline.memory import check_memory
from latentd.pipeline.output.describe import describe
from latentd.pipeline.output.finish import finish_picture, make_reply_grid
from latentd.pipeline.output.info import info_document, with_warnings
from latentd.pipeline.output.saving import save_init_picture
from latentd.pipeline.passes.conditioning import activate_networks
from latentd.pipeline.passes.image_conditioning import is_inpainting
from latentd.pipeline.passes.latents import check_methods, decode_latents
from latentd.pipeline.passes.pixels import to_picture
from latentd.pipeline.passes.previews import preview_picture
from latentd.pipeline.passes.sampling import run_through
from latentd.pipeline.passes.sampling_pass import Sampling
from latentd.pipeline.txt2img import sample_txt2img
from latentd.pipeline.upscaling import upscaler_of
from latentd.plugins import blame
from latentd.plugins.blame import blamed, owner_of
from latentd.types import GeneratedImage, Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from latentd.generations import Plan, UNetHook
    from latentd.pipeline.needs import WorkerServices
    from latentd.types import JobControl


def execute(plan: Plan, services: WorkerServices, control: JobControl) -> Result:
    """The result of ``plan``, from its selectable script if it has one, else from one generation; on the worker.

    :raises LatentdError: a feature failed; :class:`latentd.errors.Interrupted` if the job was cancelled.
    """
    if plan.script is None:
        return generate(plan, services, control)
    warn_of(plan, control)
    script = plan.script
    with blamed(owner_of(services.registry.scripts, script.title), script_place(script, "run")):
        result = blame.result(script.run(services, plan, plan.script_args, control))
    return replace(result, info=with_warnings(result.info, control.progress.warnings))


def generate(
    plan: Plan, services: WorkerServices, control: JobControl, hooks: Sequence[UNetHook] = (), *, within: bool = False
) -> Result:
    """The result of one generation without its selectable script; scripts call this any number of times.

    :param hooks: UNet hooks that take part beside those of plugins and scripts.
    :param within: it is a part of another generation, whose infotext stays in ``params.txt``.
    """
    with closing(new_generation(plan, services, control)) as gen, torch.inference_mode():
        gen.given_hooks, gen.within = tuple(hooks), within
        return run_through(stages(gen))


def new_generation(plan: Plan, services: WorkerServices, control: JobControl) -> RunningGeneration:
    """A new generation; the caller must close it."""
    warn_of(plan, control)
    return RunningGeneration(
        plan=plan,
        options=plan.options,
        control=control,
        services=services,
        hooks=JobHooks(services.hooks, plan.alwayson),
        infotext=dict(plan.infotext),
    )


def warn_of(plan: Plan, control: JobControl) -> None:
    """Pass the warnings of planning to the job."""
    for message in plan.warnings:
        control.warn(message)


def stages(gen: RunningGeneration) -> Sampling[Result]:
    """One whole generation, which yields the passes to be sampled."""
    plan = gen.plan
    begin(gen)
    images: list[GeneratedImage] = []
    with circular_padding(gen.model, plan.tiling):
        start = prepare_start(gen)
        for index in range(plan.n_iter):
            if not gen.control.begin_batch():
                break
            pictures = yield from draw_batch(gen, Batch.of(plan, index), start)
            images += finish_batch(gen, enumerate(pictures), None if start is None else start.init)
    return reply(gen, images)


def begin(gen: RunningGeneration) -> None:
    """Load the models, note what infotexts say of them, and let hooks take part."""
    plan, control = gen.plan, gen.control
    control.progress.stage = "prepare"
    gen.in_use = model = gen.lease(plan.checkpoint)
    check_memory(gen)
    gen.own = BaseModel(
        info=model.info,
        vae=model.vae_info,
        is_inpainting=is_inpainting(model),
        is_sdxl=model.is_sdxl,
        is_fp8=model.fp8,
    )
    if control.progress.job_count == -1:
        control.progress.job_count = plan.n_iter * (2 if plan.hires else 1)
    gen.infotext.update(model.precision_notes())
    if (threshold := float(gen.options["step_cache_threshold"])) > 0:
        gen.infotext["Step cache"] = threshold
    gen.infotext.update(hypertile_notes(gen.options, second_pass=plan.hires is not None))
    check_methods(gen)
    gen.hooks.before_process(gen)
    gen.unet_hooks = [*gen.hooks.unet_hooks(gen), *gen.given_hooks]


def prepare_start(gen: RunningGeneration, *, save: bool = True) -> Img2imgStart | None:
    """The latents with which the batches of img2img start; None in txt2img.

    :param save: whether option ``save_init_img`` counts.
    """
    init = prepare_init(gen, save=save)
    if init is None:
        return None
    start = start_img2img(gen, init, gen.plan.batch_size)
    gen.img2img = start
    return start


def prepare_init(gen: RunningGeneration, *, save: bool = True) -> Img2imgInit | None:
    """The pictures and masks of img2img, noted in the infotext; None in txt2img.

    :param save: whether option ``save_init_img`` counts.
    """
    if not gen.plan.is_img2img:
        return None

    def save_init(picture: Image.Image, digest: str) -> None:
        if save:
            save_init_picture(gen, picture, digest)

    gen.current = Batch.of(gen.plan, 0)
    init = prepare(gen.plan, upscale=upscaler_of(gen, gen.options["upscaler_for_img2img"]), save_init=save_init)
    gen.infotext.update(init.infotext)
    return init


def draw_batch(gen: RunningGeneration, batch: Batch, start: Img2imgStart | None) -> Sampling[list[Image.Image]]:
    """The decoded pictures of ``batch``; none if the job was stopped before there was any."""
    control, base = gen.control, gen.model
    gen.current = batch
    if not batch.prompts:
        return []
    if gen.plan.n_iter > 1:
        control.progress.job = f"Batch {batch.index + 1} out of {gen.plan.n_iter}"
    gen.hooks.before_batch(gen)
    with ExitStack() as networks:
        if not gen.request.disable_extra_networks:
            activate_networks(gen, batch.prompts, networks)
        if batch.index == batch.first == 0:
            _write_params(gen)
        try:
            latents = yield from (sample_txt2img(gen, batch) if start is None else sample_img2img(gen, batch, start))
        except Interrupted:
            # The job was stopped before there was a picture; a cancelled job ends here.
            if control.stop_requested() == "cancel":
                raise
            return []
        latents = gen.hooks.after_sample(gen, latents)
        pictures = _decoded(gen, latents)
    gen.in_use = base
    control.progress.next_job()
    gen.hooks.after_batch(gen)
    return pictures


def finish_batch(
    gen: RunningGeneration, pictures: Iterable[tuple[int, Image.Image]], init: Img2imgInit | None
) -> list[GeneratedImage]:
    """The reply's pictures for decoded ones of the present batch, each with its number in that."""
    return [image for number, picture in pictures for image in finish_picture(gen, picture, number, init)]


def _decoded(gen: RunningGeneration, latents: torch.Tensor) -> list[Image.Image]:
    """The pictures of ``latents``; decoded as previews after an interrupt if ``live_preview_fast_interrupt`` is on."""
    if gen.control.progress.interrupted and gen.options["live_preview_fast_interrupt"]:
        size = (latents.shape[-1] * LATENT_DOWNSCALE, latents.shape[-2] * LATENT_DOWNSCALE)
        pictures = [preview_picture(gen, x, gen.leave_if_cancelled) for x in latents]
        return [picture.resize(size, Image.Resampling.BICUBIC) for picture in pictures]
    return [to_picture(x) for x in decode_latents(gen, latents)]


def _write_params(gen: RunningGeneration) -> None:
    """Write AUTOMATIC1111's ``params.txt``: the infotext of the job's first picture, in the data folder."""
    if gen.services.settings.no_prompt_history or gen.within:
        return
    try:
        write_atomically(gen.services.paths.data / "params.txt", describe(gen, 0).encode())
    except OSError as error:
        gen.warn(f"params.txt could not be written: {error.strerror or type(error).__name__}")


def reply(gen: RunningGeneration, images: list[GeneratedImage]) -> Result:
    """The result of finished pictures, with their grid and what hooks add."""
    texts = [image.infotext for image in images if image.infotext is not None]
    if gen.current is None:
        gen.current = Batch.of(gen.plan, 0)
    if not texts:
        texts.append(describe(gen, 0))
    index_of_first = 0
    if (grid := make_reply_grid(gen, images)) is not None:
        images.insert(0, grid)
        texts.insert(0, grid.infotext or "")
        index_of_first = 1
    gen.hooks.images_done(gen, images)
    images += gen.extra_images
    info = with_warnings(info_document(gen, texts, index_of_first), gen.control.progress.warnings)
    interrupted = bool(gen.control.progress.interrupted)
    result = Result(images=tuple(images), info=info, interrupted=interrupted)
    gen.hooks.after_process(gen, result)
    return result
