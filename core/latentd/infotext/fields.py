"""The fixed part of an infotext: which keys, in which order, and when each is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class InfotextFields:
    """The fields of one image's infotext; those that are None or have their neutral value are not written.

    Floats are written as Python prints them, so ``cfg_scale`` must be a float (``5.0``).

    :param schedule_type: only if the sampler's name does not imply it (AUTOMATIC1111 1.9 and later).
    :param image_cfg_scale: only for instruct-pix2pix models.
    :param face_restoration: name of the restorer, if one was used.
    :param size: width and height that were asked for, of the first pass.
    :param model: file stem of the checkpoint.
    :param model_hash: first ten digits of the checkpoint's SHA-256.
    :param vae: file name of a separately loaded VAE.
    :param vae_hash: first ten digits of that VAE's SHA-256.
    :param subseed: written when ``subseed_strength`` is not 0.
    :param seed_resize_from: width and height; written when both are above 0.
    :param denoising_strength: only with hires or img2img.
    :param conditional_mask_weight: only with an inpainting model.
    :param clip_skip: written if above 1.
    :param rng: written unless ``GPU``.
    :param ensd: eta noise seed delta; 0 unless the sampler uses it with an eta that is not 0.
    :param ngms: the minimum sigma of negative guidance that is in force.
    :param extra: further keys in the order in which they were set; a key of the fixed part keeps its place there.
    """

    steps: int
    sampler: str
    cfg_scale: float
    seed: int
    size: tuple[int, int]
    schedule_type: str | None = None
    image_cfg_scale: float | None = None
    face_restoration: str | None = None
    model_hash: str | None = None
    model: str | None = None
    fp8_weight: str | None = None
    cache_fp16_weight: bool | None = None
    vae_hash: str | None = None
    vae: str | None = None
    subseed: int | None = None
    subseed_strength: float = 0
    seed_resize_from: tuple[int, int] = (0, 0)
    denoising_strength: float | None = None
    conditional_mask_weight: float | None = None
    clip_skip: int = 1
    ensd: int = 0
    token_merging_ratio: float = 0
    token_merging_ratio_hr: float = 0
    init_image_hash: str | None = None
    rng: str = "GPU"
    ngms: float = 0
    tiling: bool = False
    extra: Mapping[str, object] = field(default_factory=dict)
    version: str | None = None
    user: str | None = None

    def ordered(self) -> dict[str, object]:
        """Key → value in the order of writing, without the fields that are not written."""
        values: dict[str, object] = {
            "Steps": self.steps,
            "Sampler": self.sampler,
            "Schedule type": self.schedule_type,
            "CFG scale": self.cfg_scale,
            "Image CFG scale": self.image_cfg_scale,
            "Seed": self.seed,
            "Face restoration": self.face_restoration,
            "Size": _pair(self.size),
            "Model hash": self.model_hash,
            "Model": self.model,
            "FP8 weight": self.fp8_weight,
            "Cache FP16 weight for LoRA": self.cache_fp16_weight,
            "VAE hash": self.vae_hash,
            "VAE": self.vae,
            "Variation seed": self.subseed if self.subseed_strength else None,
            "Variation seed strength": self.subseed_strength or None,
            "Seed resize from": _pair(self.seed_resize_from) if min(self.seed_resize_from) > 0 else None,
            "Denoising strength": self.denoising_strength,
            "Conditional mask weight": self.conditional_mask_weight,
            "Clip skip": self.clip_skip if self.clip_skip > 1 else None,
            "ENSD": self.ensd or None,
            "Token merging ratio": self.token_merging_ratio or None,
            "Token merging ratio hr": self.token_merging_ratio_hr or None,
            "Init image hash": self.init_image_hash,
            "RNG": None if self.rng == "GPU" else self.rng,
            "NGMS": self.ngms or None,
            "Tiling": True if self.tiling else None,
        }
        if self.schedule_type is None:
            # A schedule overridden as in 1.8 is one of the extra keys.
            del values["Schedule type"]
        values |= self.extra
        values |= {"Version": self.version, "User": self.user}
        return {key: value for key, value in values.items() if value is not None}


def _pair(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
