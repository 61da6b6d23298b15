"""The passes of txt2img: from noise to a latent, and to a larger one with hires fix (rules: a1111-hires)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from latentd.generations import LATENT_DOWNSCALE, HiresPlan
from latentd.images.resize import resize_image
from latentd.images.transparency import flatten
from latentd.pipeline.passes.conditioning import activate_networks, condition_batch, model_view, refiner_for
from latentd.pipeline.passes.image_conditioning import with_picture, without_picture
from latentd.pipeline.passes.latents import decode_latents, encode_pictures
from latentd.pipeline.passes.pixels import to_picture, to_tensor
from latentd.pipeline.passes.sampling_pass import PassInputs, Sampling, begin_pass
from latentd.pipeline.upscaling import upscaler_of
from latentd.sampling.noise import NoiseStream
from latentd.sampling.sampling_schedule import Img2ImgParams
from latentd.sampling.steps import total_steps

if TYPE_CHECKING:
    from latentd.conditioning.schedule import Conditioning
    from latentd.pipeline.generation import Batch, RunningGeneration


def noise_stream(gen: RunningGeneration, batch: Batch, height: int, width: int) -> NoiseStream:
    """The batch's noise for latents of ``height`` x ``width`` cells."""
    request, options = gen.request, gen.options
    return NoiseStream(
        (gen.model.latent_channels, height, width),
        batch.seeds,
        options["randn_source"],
        subseeds=batch.subseeds,
        subseed_strength=request.subseed_strength,
        seed_resize_from=(request.seed_resize_from_w, request.seed_resize_from_h),
        ensd=int(options["eta_noise_seed_delta"] or 0),
        device=gen.device,
    )


def sample_txt2img(gen: RunningGeneration, batch: Batch) -> Sampling[Tensor]:
    """Latents [B,4,h,w] of the batch, from the second pass if there is one."""
    plan = gen.plan
    if plan.hires is not None and gen.request.firstpass_image is not None:
        latents, pictures = _given_first_pass(gen, gen.request.firstpass_image, plan.hires, len(batch.seeds))
        return (yield from _sample_hires(gen, batch, plan.hires, latents, pictures))
    height, width = plan.latent_size
    stream = noise_stream(gen, batch, height, width)
    steps = total_steps(plan.sampler.spec, plan.steps)
    conditioning = condition_batch(
        gen, batch.prompts, batch.negative_prompts, steps=steps, size=(plan.width, plan.height)
    )
    like = torch.empty(len(batch.seeds), gen.model.latent_channels, height, width, device=gen.device)
    inputs = PassInputs(
        name="base",
        choice=plan.sampler,
        steps=plan.steps,
        stream=stream,
        seeds=list(batch.seeds),
        view=model_view(gen, gen.model, conditioning, concat=without_picture(gen, like)),
        refiner=refiner_for(gen, batch),
    )
    latents = yield begin_pass(gen, inputs)
    if plan.hires is None or gen.control.stop_requested() is not None:
        return latents
    pictures = _first_pass_pictures(gen, latents, plan.hires)
    return (yield from _sample_hires(gen, batch, plan.hires, latents, pictures))


def _given_first_pass(
    gen: RunningGeneration, picture: Image.Image, hires: HiresPlan, count: int
) -> tuple[Tensor, list[Image.Image]]:
    """``firstpass_image`` instead of the first pass: its latents if these are to be enlarged, and the pictures."""
    picture = flatten(picture, gen.options["img2img_background_color"])
    if hires.latent_mode is None:
        return torch.empty(0), [picture] * count
    encoded = encode_pictures(gen, to_tensor([picture])).to(gen.device, torch.float32)
    return encoded.expand(count, -1, -1, -1), []


def _sample_hires(
    gen: RunningGeneration, batch: Batch, hires: HiresPlan, latents: Tensor, pictures: list[Image.Image]
) -> Sampling[Tensor]:
    # The second pass begins with the job's own checkpoint, even if the first pass ended with a refiner.
    gen.in_use = gen.lease(hires.checkpoint or gen.plan.checkpoint)
    if hires.latent_mode is not None:
        latents, concat_pictures = _enlarge_latents(gen, latents, hires)
    else:
        latents, concat_pictures = _enlarge_pictures(gen, pictures, hires)
    gen.control.progress.next_job()
    latents = _truncate(latents, hires)
    gen.pass_name = "hires"
    # With this option, text is encoded with the networks of the first pass.
    early = _hires_conditioning(gen, batch, hires) if gen.options["hires_fix_use_firstpass_conds"] else None
    with ExitStack() as networks:
        _activate_hires_networks(gen, batch, networks)
        return (yield from _second_pass(gen, batch, hires, latents, concat_pictures, early))


def _activate_hires_networks(gen: RunningGeneration, batch: Batch, stack: ExitStack) -> None:
    if not gen.request.disable_extra_networks:
        activate_networks(gen, batch.hires_prompts, stack)


def _second_pass(
    gen: RunningGeneration,
    batch: Batch,
    hires: HiresPlan,
    latents: Tensor,
    concat_pictures: Tensor | None,
    conditioning: Conditioning | None,
) -> Sampling[Tensor]:
    if hires.denoising_strength <= 0:
        return latents
    conditioning = conditioning or _hires_conditioning(gen, batch, hires)
    if concat_pictures is None:
        concat = without_picture(gen, latents)
    else:
        concat = with_picture(
            gen.model, concat_pictures, latents, mask_weight=float(gen.options["inpainting_mask_weight"])
        )
    inputs = PassInputs(
        name="hires",
        choice=hires.sampler,
        steps=hires.steps,
        stream=noise_stream(gen, batch, *latents.shape[-2:]),
        seeds=list(batch.seeds),
        view=model_view(gen, gen.model, conditioning, concat=concat),
        init=latents,
        img2img=Img2ImgParams(
            denoising_strength=hires.denoising_strength,
            requested_steps=hires.steps,
            extra_noise=float(gen.options["img2img_extra_noise"]),
        ),
        refiner=refiner_for(gen, batch),
    )
    return (yield begin_pass(gen, inputs))


def _hires_conditioning(gen: RunningGeneration, batch: Batch, hires: HiresPlan) -> Conditioning:
    plan = gen.plan
    return condition_batch(
        gen,
        batch.hires_prompts,
        batch.hires_negative_prompts,
        steps=total_steps(plan.sampler.spec, plan.steps),
        hires_steps=total_steps(hires.sampler.spec, hires.steps),
        size=(hires.width, hires.height),
    )


def _first_pass_pictures(gen: RunningGeneration, latents: Tensor, hires: HiresPlan) -> list[Image.Image]:
    """The first pass's pictures if they are needed: for an upscaler of pictures, or for saving them."""
    from latentd.pipeline.output.saving import save_intermediate

    keep = gen.plan.save_samples and bool(gen.options["save_images_before_highres_fix"])
    if hires.latent_mode is not None and not keep:
        return []
    pictures = [to_picture(decode_latents(gen, x[None])[0]) for x in latents]
    if keep:
        for index, picture in enumerate(pictures):
            save_intermediate(gen, picture, index, suffix="-before-highres-fix")
    return pictures


def _enlarge_latents(gen: RunningGeneration, latents: Tensor, hires: HiresPlan) -> tuple[Tensor, Tensor | None]:
    mode = hires.latent_mode
    assert mode is not None
    size = (hires.height // LATENT_DOWNSCALE, hires.width // LATENT_DOWNSCALE)
    enlarged = F.interpolate(latents, size=size, mode=mode.mode, antialias=mode.antialias)
    if float(gen.options["inpainting_mask_weight"]) < 1.0 and gen.model.unet_in_channels > gen.model.latent_channels:
        return enlarged, torch.cat([decode_latents(gen, x[None]) for x in enlarged])
    return enlarged, None


def _enlarge_pictures(
    gen: RunningGeneration, pictures: list[Image.Image], hires: HiresPlan
) -> tuple[Tensor, Tensor | None]:
    upscale = upscaler_of(gen, hires.upscaler)
    large = [resize_image(0, p, hires.width, hires.height, upscale=upscale) for p in pictures]
    pixels = to_tensor(large)
    latents = torch.cat([encode_pictures(gen, x[None]) for x in pixels]).to(gen.device, torch.float32)
    # For the channels of inpainting models, AUTOMATIC1111 treats these pictures as if in [-1,1]; so does (x+1)/2 here.
    return latents, (pixels + 1) / 2


def _truncate(latents: Tensor, hires: HiresPlan) -> Tensor:
    y, x = hires.truncate_y, hires.truncate_x
    height, width = latents.shape[-2:]
    return latents[:, :, y // 2 : height - (y + 1) // 2, x // 2 : width - (x + 1) // 2]
