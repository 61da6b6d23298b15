"""The least memory that a generation needs, estimated before anything is computed.

The estimates count feature maps, which with large sizes and batches are larger than everything else. They are low on
purpose (a half to nine tenths of what is measured with the tiny model in float32), so that only generations without a
chance are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.generations import LATENT_DOWNSCALE
from latentd.images.upscalers import largest_on_the_way
from latentd.models.free_memory import require_memory

if TYPE_CHECKING:
    from latentd.models.loaded import LoadedModel
    from latentd.pipeline.generation import RunningGeneration

#: How many feature maps of the finest level are in memory at once: those of the skip connections of that level and the
#: next (5), and the hidden states in a transformer's feed-forward layer (8 and 4, input and output 3) or a convolution.
MAPS_WITH_ATTENTION = 20
MAPS_WITHOUT = 10
#: Bytes of a decoded pixel, once by itself and once in the batch: float32, three channels.
PICTURE_BYTES = 2 * 3 * 4
#: A pixel of an enlarged picture as Pillow keeps it, once in the picture and once in the tiles that it is joined from.
ENLARGED_BYTES = 2 * 4


def unet_bytes(model: LoadedModel, width: int, height: int, rows: int) -> int:
    """Bytes that one call of the UNet needs for ``rows`` latents of ``width`` x ``height`` pixels; 0 if unknown."""
    config = model.unet.config
    widths = getattr(config, "block_out_channels", None)
    if not widths:
        return 0
    attends = "CrossAttn" in config.down_block_types[0]
    cells = (width // LATENT_DOWNSCALE) * (height // LATENT_DOWNSCALE)
    maps = MAPS_WITH_ATTENTION if attends else MAPS_WITHOUT
    return int(maps * widths[0] * cells * rows * model.dtype.itemsize)


def check_memory(gen: RunningGeneration) -> None:
    """Refuse a generation for which the device has too little memory, even if nothing else runs.

    :raises TooLarge: the message says how much it needs and how much is free.
    """
    plan, model = gen.plan, gen.model
    together = 2 if gen.options["batch_cond_uncond"] and plan.cfg_scale != 1 else 1
    hires = plan.hires
    sizes = [(plan.width, plan.height), *([hires.final_size] if hires else [])]
    for width, height in sizes:
        what = f"{plan.batch_size} x {width}x{height} at once"
        hint = "use a smaller size or batch_size (n_iter draws as many, one after another)"
        require_memory(
            unet_bytes(model, width, height, plan.batch_size * together), what, hint=hint, device=model.device
        )
        require_memory(PICTURE_BYTES * width * height * plan.batch_size, what, hint=hint)
    spec = gen.services.registry.upscalers.find(hires.upscaler) if hires and hires.upscaler else None
    if hires and spec is not None:
        factor = max(hires.width / plan.width, hires.height / plan.height)
        check_upscale((plan.width, plan.height), factor, spec.scale)


def check_upscale(size: tuple[int, int], scale: float, native: float | None) -> None:
    """Refuse to enlarge a picture of ``size`` by ``scale`` where memory cannot hold what is made on the way.

    :param native: the factor of one run, which overshoots ``scale`` by far at times: 4 for 1.1, twice for 5. None where
        the upscaler goes to any size at once.
    :raises TooLarge: as :func:`latentd.models.free_memory.require_memory`.
    """
    width, height = largest_on_the_way(size, scale, scale if native is None else native)
    require_memory(
        ENLARGED_BYTES * width * height,
        f"enlarging {size[0]}x{size[1]} to {width}x{height}",
        hint="use a smaller picture, or an upscaler of a smaller factor",
    )
