"""The pass of img2img: from a picture's latent, with or without a mask (rules: a1111-img2img-steps)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from latentd.generations import Img2imgInit, Img2imgStart
from latentd.images.masks import latent_mask
from latentd.images.resize import LATENT
from latentd.pipeline.img2img_init import LATENT_NOISE, LATENT_NOTHING
from latentd.pipeline.passes.conditioning import condition_batch, model_view, refiner_for
from latentd.pipeline.passes.denoiser import InpaintBlend
from latentd.pipeline.passes.image_conditioning import with_picture
from latentd.pipeline.passes.latents import encode_pictures
from latentd.pipeline.passes.pixels import to_tensor
from latentd.pipeline.passes.sampling_pass import PassInputs, Sampling, begin_pass
from latentd.pipeline.txt2img import noise_stream
from latentd.sampling.noise import NoiseStream
from latentd.sampling.sampling_schedule import Img2ImgParams
from latentd.sampling.steps import total_steps

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.pipeline.generation import Batch, RunningGeneration


def start_img2img(gen: RunningGeneration, init: Img2imgInit, batch_size: int) -> Img2imgStart:
    """The job's pictures as latents, with its mask and the model's further input channels."""
    pictures = to_tensor(init.pictures)
    latent = torch.cat([encode_pictures(gen, x[None]) for x in pictures]).to(gen.device, torch.float32)
    if len(init.pictures) == 1:
        latent = latent.repeat(batch_size, 1, 1, 1)
    if gen.request.resize_mode == LATENT:
        latent = F.interpolate(latent, size=gen.plan.latent_size, mode="bilinear")
    nmask = None if init.mask is None else _repainted(gen, gen.request.latent_mask or init.mask, latent)
    if nmask is not None:
        latent = _filled(gen, latent, nmask)
    concat = with_picture(
        gen.model,
        pictures,
        latent,
        mask=init.mask,
        round_mask=gen.request.mask_round,
        mask_weight=float(gen.options["inpainting_mask_weight"]),
    )
    return Img2imgStart(
        init=init, latent=latent, mask=None if nmask is None else 1.0 - nmask, nmask=nmask, concat=concat
    )


def _repainted(gen: RunningGeneration, mask: Image, latent: Tensor) -> Tensor:
    """A mask [1,1,h,w] that is 1 where the picture is repainted."""
    height, width = latent.shape[-2:]
    share = latent_mask(mask, width, height, round_mask=gen.request.mask_round)
    return torch.from_numpy(share)[None, None].to(latent)


def _filled(gen: RunningGeneration, latent: Tensor, nmask: Tensor) -> Tensor:
    """``latent`` [B,4,h,w]; where it is repainted, with noise or zeros if ``inpainting_fill`` says so."""
    if gen.request.inpainting_fill == LATENT_NOTHING:
        return latent * (1.0 - nmask)
    if gen.request.inpainting_fill != LATENT_NOISE:
        return latent
    seeds = gen.plan.seeds[: latent.shape[0]]
    shape = (latent.shape[1], *latent.shape[-2:])
    noise = NoiseStream(shape, seeds, gen.options["randn_source"], device=gen.device).next()
    return latent * (1.0 - nmask) + noise * nmask


def sample_img2img(gen: RunningGeneration, batch: Batch, start: Img2imgStart) -> Sampling[Tensor]:
    """Latents [B,4,h,w] of the batch."""
    plan, options = gen.plan, gen.options
    steps = total_steps(plan.sampler.spec, plan.steps)
    conditioning = condition_batch(
        gen, batch.prompts, batch.negative_prompts, steps=steps, size=(plan.width, plan.height)
    )
    inputs = PassInputs(
        name="base",
        choice=plan.sampler,
        steps=plan.steps,
        stream=noise_stream(gen, batch, *start.latent.shape[-2:]),
        seeds=list(batch.seeds),
        view=model_view(gen, gen.model, conditioning, concat=start.concat),
        init=start.latent[: len(batch.seeds)],
        img2img=Img2ImgParams(
            denoising_strength=max(plan.denoising_strength or 0.0, 0.0),
            fix_steps=bool(options["img2img_fix_steps"]),
            noise_multiplier=plan.initial_noise_multiplier,
            extra_noise=float(options["img2img_extra_noise"]),
        ),
        blend=_blend(gen, start, len(batch.seeds)),
        refiner=refiner_for(gen, batch),
    )
    samples = yield begin_pass(gen, inputs)
    if start.mask is None or start.nmask is None:
        return samples
    blended = samples * start.nmask + start.latent[: len(batch.seeds)] * start.mask
    replaced = gen.hooks.blend(gen, samples, None, start, final=True)
    return blended if replaced is None else replaced


def _blend(gen: RunningGeneration, start: Img2imgStart, count: int) -> InpaintBlend | None:
    if start.mask is None or start.nmask is None:
        return None

    def by_script(latent: Tensor, level: Tensor) -> Tensor | None:
        return gen.hooks.blend(gen, latent, level, start, final=False)

    return InpaintBlend(init=start.latent[:count], mask=start.mask, nmask=start.nmask, script=by_script)
