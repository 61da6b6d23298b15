"""The arguments of ``Ultimate SD upscale``."""

from __future__ import annotations

from enum import IntEnum

from latentd.api import JsonValue
from latentd_scripts.arguments import UNUSED, Arguments, control


class Redraw(IntEnum):
    """The order in which tiles are redrawn."""

    LINEAR = 0
    CHESS = 1
    NONE = 2


class SeamsFix(IntEnum):
    """What is redrawn along the seams."""

    NONE = 0
    BAND_PASS = 1
    HALF_TILE = 2
    HALF_TILE_AND_INTERSECTIONS = 3


class TargetSize(IntEnum):
    """Where the size of the result comes from."""

    REQUEST = 0
    CUSTOM = 1
    SCALE = 2


REDRAWS = ("Linear", "Chess", "None")
SEAMS_FIXES = ("None", "Band pass", "Half tile offset pass", "Half tile offset pass + intersections")
TARGET_SIZES = ("From img2img2 settings", "Custom size", "Scale from image size")
_MOST_SIDE = 16384


class UltimateUpscaleArgs(Arguments):
    """``script_args`` of ``Ultimate SD upscale``; ``upscaler_index`` is a place in the list of upscalers, or a name."""

    remark: JsonValue = UNUSED
    tile_width: int = control(512, "Tile width", minimum=0, maximum=2048, step=64, ge=0, le=_MOST_SIDE)
    tile_height: int = control(0, "Tile height", minimum=0, maximum=2048, step=64, ge=0, le=_MOST_SIDE)
    mask_blur: int = control(8, "Mask blur", minimum=0, maximum=64, step=1, ge=0, le=1024)
    padding: int = control(32, "Padding", minimum=0, maximum=512, step=1, ge=0, le=2048)
    seams_fix_width: int = control(64, "Width", minimum=0, maximum=128, step=1, ge=0, le=_MOST_SIDE)
    seams_fix_denoise: float = control(0.35, "Denoise", minimum=0, maximum=1, step=0.01, ge=0, le=1)
    seams_fix_padding: int = control(16, "Padding", minimum=0, maximum=128, step=1, ge=0, le=2048)
    upscaler_index: int | str = control(0, "Upscaler")
    save_upscaled_image: bool = control(True, "Upscaled")
    redraw_mode: Redraw = control(0, "Type", choices=REDRAWS)
    save_seams_fix_image: bool = control(False, "Seams fix")
    seams_fix_mask_blur: int = control(4, "Mask blur", minimum=0, maximum=64, step=1, ge=0, le=1024)
    seams_fix_type: SeamsFix = control(0, "Type", choices=SEAMS_FIXES)
    target_size_type: TargetSize = control(0, "Target size type", choices=TARGET_SIZES)
    custom_width: int = control(2048, "Custom width", minimum=64, maximum=8192, step=64, ge=8, le=_MOST_SIDE)
    custom_height: int = control(2048, "Custom height", minimum=64, maximum=8192, step=64, ge=8, le=_MOST_SIDE)
    custom_scale: float = control(2, "Scale", minimum=1, maximum=16, step=0.01, gt=0, le=64)
