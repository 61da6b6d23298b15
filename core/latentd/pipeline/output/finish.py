"""From decoded pictures to the reply, in AUTOMATIC1111's order: faces, colour, overlay, saving, masks and grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from PIL import Image

from latentd.errors import NotConfigured
from latentd.images.colour import correct_colours
from latentd.images.grid import grid_rows, make_grid
from latentd.images.inpaint import apply_overlay, mask_composite
from latentd.pipeline.output.describe import describe
from latentd.pipeline.output.saving import save_grid, save_sample
from latentd.pipeline.upscaling import restore_with, worker_context
from latentd.plugins.catalogue import FACERESTORE, install_hint
from latentd.services import FaceRestorerSpec
from latentd.types import GeneratedImage

T = TypeVar("T")

if TYPE_CHECKING:
    from latentd.generations import Img2imgInit
    from latentd.pipeline.generation import RunningGeneration


def finish_picture(
    gen: RunningGeneration, picture: Image.Image, index: int, init: Img2imgInit | None
) -> list[GeneratedImage]:
    """The reply's pictures for one decoded picture: itself, and its mask and composite if options ask for them."""
    options = gen.options
    if gen.plan.restore_faces:
        if options["save_images_before_face_restoration"]:
            save_sample(gen, picture, index, describe(gen, index), suffix="-before-face-restoration")
        picture = restore_faces(gen, picture)
    picture = gen.hooks.postprocess_image(gen, picture, index)
    before_overlay = picture
    overlay_mask = None
    if init is not None:
        picture, before_overlay, overlay_mask = _compose(gen, picture, index, init)
    text = describe(gen, index)
    saved = save_sample(gen, picture, index, text)
    batch = gen.current
    image = GeneratedImage(
        image=picture,
        infotext=text,
        info={"parameters": text} if options["enable_pnginfo"] else {},
        seed=batch.seeds[index] if batch and index < len(batch.seeds) else None,
        path=str(saved.image) if saved else None,
    )
    return [image, *_masks(gen, index, before_overlay, overlay_mask)]


def restore_faces(gen: RunningGeneration, picture: Image.Image) -> Image.Image:
    """``picture`` with its faces restored by option ``face_restoration_model``.

    :raises NotConfigured: no such restorer is installed.
    """
    name = gen.options["face_restoration_model"]
    restorer: FaceRestorerSpec | None = gen.services.registry.face_restorers.find(name)
    if restorer is None:
        raise NotConfigured(f"Face restorer {name!r} not found", hint=install_hint(FACERESTORE))
    return restore_with(gen.services.registry, restorer, picture, None, worker_context(gen))


def _compose(
    gen: RunningGeneration, picture: Image.Image, index: int, init: Img2imgInit
) -> tuple[Image.Image, Image.Image, Image.Image | None]:
    """(finished, before the overlay, overlay mask)."""
    options = gen.options
    overlay, overlay_mask = _pick(init.overlays, index), init.overlay_mask
    replaced = gen.hooks.overlay(gen, index, overlay, overlay_mask)
    if replaced is not None:
        overlay, overlay_mask = replaced
    if not options["overlay_inpaint"]:
        overlay = None
    target = _pick(init.colour_targets, index)
    if target is not None:
        if options["save_images_before_color_correction"]:
            plain = picture if overlay is None else apply_overlay(picture, overlay, init.box)[0]
            save_sample(gen, plain, index, describe(gen, index), suffix="-before-color-correction")
        picture = correct_colours(target, picture)
    if overlay is None:
        return picture, picture, overlay_mask
    finished, before = apply_overlay(picture, overlay, init.box)
    return finished, before, overlay_mask


def _pick(items: list[T], index: int) -> T | None:
    if len(items) == 1:
        return items[0]
    return items[index] if index < len(items) else None


def _masks(
    gen: RunningGeneration, index: int, before: Image.Image, overlay_mask: Image.Image | None
) -> list[GeneratedImage]:
    if overlay_mask is None:
        return []
    options = gen.options
    found = []
    for kind in ("mask", "mask_composite"):
        if not options[f"return_{kind}"] and not options[f"save_{kind}"]:
            continue
        image = overlay_mask.convert("RGB") if kind == "mask" else mask_composite(before, overlay_mask)
        if options[f"save_{kind}"]:
            save_sample(gen, image, index, describe(gen, index), suffix="-" + kind.replace("_", "-"))
        if options[f"return_{kind}"]:
            found.append(GeneratedImage(image=image, role="extra"))
    return found


def make_reply_grid(gen: RunningGeneration, images: list[GeneratedImage]) -> GeneratedImage | None:
    """The grid, saved as options say; None if the reply has no grid."""
    options = gen.options
    wanted = options["return_grid"] or options["grid_save"]
    if not gen.request.save_images or not wanted or (len(images) < 2 and options["grid_only_if_multiple"]):
        return None
    rows = grid_rows(
        len(images),
        n_rows=int(options["n_rows"]),
        batch_size=gen.plan.batch_size,
        prevent_empty_spots=bool(options["grid_prevent_empty_spots"]),
    )
    grid = make_grid([i.image for i in images], rows)
    text = describe(gen, 0, of_job=True)
    save_grid(gen, grid, text)
    if not options["return_grid"]:
        return None
    info = {"parameters": text} if options["enable_pnginfo"] else {}
    return GeneratedImage(image=grid, infotext=text, info=info, role="grid")
