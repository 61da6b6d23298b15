"""Options of AUTOMATIC1111's built-in extensions except LoRA and the canvas (rules: a1111-options)."""

from __future__ import annotations

from functools import partial

from latentd.contributions import OptionSpec
from latentd.options.declared.declare import declare

_option = partial(declare, section="sd")
COMMENTS: tuple[OptionSpec, ...] = (_option("enable_prompt_comments", True, "drop text from # to the end of the line"),)

_option = partial(declare, section="hypertile")
HYPERTILE: tuple[OptionSpec, ...] = (
    _option("hypertile_enable_unet", False, "tiled self-attention in the UNet", infotext="Hypertile U-Net"),
    _option(
        "hypertile_enable_unet_secondpass",
        False,
        "tiled self-attention in the hires pass",
        infotext="Hypertile U-Net second pass",
    ),
    _option(
        "hypertile_max_depth_unet",
        3,
        "deepest UNet level that is tiled",
        minimum=0,
        maximum=3,
        infotext="Hypertile U-Net max depth",
    ),
    _option(
        "hypertile_max_tile_unet",
        256,
        "largest UNet tile in pixels",
        minimum=0,
        maximum=512,
        infotext="Hypertile U-Net max tile size",
    ),
    _option(
        "hypertile_swap_size_unet",
        3,
        "number of UNet tile sizes to swap between",
        minimum=0,
        maximum=64,
        infotext="Hypertile U-Net swap size",
    ),
    _option("hypertile_enable_vae", False, "tiled self-attention in the VAE", infotext="Hypertile VAE"),
    _option(
        "hypertile_max_depth_vae",
        3,
        "deepest VAE level that is tiled",
        minimum=0,
        maximum=3,
        infotext="Hypertile VAE max depth",
    ),
    _option(
        "hypertile_max_tile_vae",
        128,
        "largest VAE tile in pixels",
        minimum=0,
        maximum=512,
        infotext="Hypertile VAE max tile size",
    ),
    _option(
        "hypertile_swap_size_vae",
        3,
        "number of VAE tile sizes to swap between",
        minimum=0,
        maximum=64,
        infotext="Hypertile VAE swap size",
    ),
)

_option = partial(declare, section="upscaling", affects="extras")
UPSCALERS: tuple[OptionSpec, ...] = (
    _option("SWIN_tile", 192, "tile size for SwinIR", minimum=16, maximum=512),
    _option("SWIN_tile_overlap", 8, "overlap of SwinIR tiles in pixels", minimum=0, maximum=48),
    _option("SWIN_torch_compile", False, "compile SwinIR before its use"),
    _option("SCUNET_tile", 256, "tile size for ScuNET; 0 for none", minimum=0, maximum=512),
    _option("SCUNET_tile_overlap", 8, "overlap of ScuNET tiles in pixels", minimum=0, maximum=64),
    _option("ldsr_steps", 100, "steps of LDSR", minimum=1, maximum=200),
    _option("ldsr_cached", False, "keep LDSR loaded"),
)
