"""Preparing img2img before sampling: masks, init pictures and overlays, without torch.

The order of operations is AUTOMATIC1111's (rules: a1111-img2img).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from latentd.generations import Img2imgInit
from latentd.images.colour import correction_target
from latentd.images.fill import fill_masked
from latentd.images.inpaint import MaskLayout, crop_to_box, layout_mask, overlay_of
from latentd.images.masks import prepare_mask
from latentd.images.resize import CONTAIN, COVER, LATENT, STRETCH, resize_image
from latentd.images.transparency import flatten

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.generations import Plan

FILL, ORIGINAL, LATENT_NOISE, LATENT_NOTHING = range(4)
_FILL_NAMES = {FILL: "fill", LATENT_NOISE: "latent noise", LATENT_NOTHING: "latent nothing"}


def prepare(
    plan: Plan, *, upscale: Callable[[Image, float], Image] | None = None, save_init: Callable[[Image, str], None]
) -> Img2imgInit:
    """The init of ``plan``.

    :param upscale: option ``upscaler_for_img2img`` as a callable, None for Lanczos.
    :param save_init: stores an init picture under its md5 (option ``save_init_img``).
    """
    request, options = plan.request, plan.options
    init = Img2imgInit()
    init.infotext["Denoising strength"] = plan.denoising_strength
    layout = _mask_layout(plan, init)
    for picture in request.init_images:
        if options["save_init_img"]:
            digest = hashlib.md5(picture.tobytes(), usedforsecurity=False).hexdigest()
            init.infotext["Init image hash"] = digest
            save_init(picture, digest)
        _prepare_picture(plan, init, picture, layout, upscale)
    return init


def _mask_layout(plan: Plan, init: Img2imgInit) -> MaskLayout | None:
    request = plan.request
    if request.mask is None:
        return None
    blur_x, blur_y = (request.mask_blur_x, request.mask_blur_y)
    if request.mask_blur is not None:
        blur_x = blur_y = request.mask_blur
    mask = prepare_mask(
        request.mask,
        round_mask=request.mask_round,
        invert=bool(request.inpainting_mask_invert),
        blur_x=blur_x,
        blur_y=blur_y,
    )
    if request.inpainting_mask_invert:
        init.infotext["Mask mode"] = "Inpaint not masked"
    if blur_x > 0 or blur_y > 0:
        init.infotext["Mask blur"] = blur_x if blur_x == blur_y else None
    layout = layout_mask(
        mask,
        width=plan.width,
        height=plan.height,
        only_masked=request.inpaint_full_res,
        padding=request.inpaint_full_res_padding,
        resize_mode=_pixel_mode(request.resize_mode),
    )
    if layout is None:
        return None  # an empty mask means plain img2img, as in AUTOMATIC1111 1.9 and later
    if request.inpaint_full_res:
        init.infotext["Inpaint area"] = "Only masked"
        init.infotext["Masked area padding"] = request.inpaint_full_res_padding
    if request.inpainting_fill in _FILL_NAMES:
        init.infotext["Masked content"] = _FILL_NAMES[request.inpainting_fill]
    init.mask, init.overlay_mask, init.box = layout.working, layout.overlay, layout.box
    return layout


def _prepare_picture(
    plan: Plan,
    init: Img2imgInit,
    picture: Image,
    layout: MaskLayout | None,
    upscale: Callable[[Image, float], Image] | None,
) -> None:
    request, options = plan.request, plan.options
    mode = _pixel_mode(request.resize_mode)
    image = flatten(picture, options["img2img_background_color"])
    if init.box is None and request.resize_mode != LATENT:
        image = resize_image(mode, image, plan.width, plan.height, upscale=upscale)
    if layout is not None and init.overlay_mask is not None:
        shown = image
        if init.box is None and request.resize_mode == LATENT:
            # Resize mode 3 stretches the latent instead of the picture, so the overlay must be stretched as well.
            shown = resize_image(STRETCH, image, plan.width, plan.height, upscale=upscale)
        if init.overlay_mask.size != shown.size:
            init.overlay_mask = resize_image(mode, init.overlay_mask, *shown.size)
        init.overlays.append(overlay_of(shown, init.overlay_mask))
        if init.box is not None:
            image = crop_to_box(image, init.box, plan.width, plan.height, upscale=upscale)
        if request.inpainting_fill != ORIGINAL:
            image = fill_masked(image, _fitted(request.latent_mask or layout.working, image.size))
    if options["img2img_color_correction"]:
        init.colour_targets.append(correction_target(image))
    init.pictures.append(image)


def _fitted(mask: Image, size: tuple[int, int]) -> Image:
    return mask if mask.size == size else resize_image(STRETCH, mask.convert("L"), *size)


def _pixel_mode(resize_mode: int) -> int:
    """The resize mode for pixels: as in AUTOMATIC1111, numbers other than 0 and 1 mean 2, but 3 stretches masks."""
    if resize_mode == LATENT:
        return STRETCH
    return resize_mode if resize_mode in (STRETCH, COVER) else CONTAIN
