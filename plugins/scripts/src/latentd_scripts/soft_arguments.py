"""The arguments of ``Soft Inpainting``."""

from __future__ import annotations

from latentd_scripts.arguments import Arguments, Number, control


class SoftInpaintingArgs(Arguments):
    """``alwayson_scripts["Soft Inpainting"].args``."""

    enabled: bool = control(False, "Soft inpainting")
    schedule_bias: Number = control(1, "Schedule bias", minimum=0, maximum=8, step=0.1)
    preservation_strength: Number = control(0.5, "Preservation strength", minimum=0, maximum=8, step=0.05)
    transition_contrast: Number = control(4, "Transition contrast boost", minimum=1, maximum=32, step=0.5, gt=0)
    mask_influence: Number = control(0, "Mask influence", minimum=0, maximum=1, step=0.05, ge=0, le=1)
    difference_threshold: Number = control(0.5, "Difference threshold", minimum=0, maximum=8, step=0.25, ge=0)
    difference_contrast: Number = control(2, "Difference contrast", minimum=0, maximum=8, step=0.25, ge=0)
