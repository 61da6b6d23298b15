"""Pictures along the way: drawn by the ordinary pipeline, with what is being trained as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentd.api import (
    GeneratedImage,
    GenerationRequest,
    JobControl,
    JsonValue,
    Services,
    draw_beside,
)
from latentd_training.learner import Learner

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.api import TrainableModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewOptions:
    """What previews show. With ``own_prompt`` the request's prompt and settings, else the prompt just trained on."""

    own_prompt: bool
    prompt: str
    negative_prompt: str
    steps: int
    sampler: str
    cfg_scale: float
    seed: int
    width: int
    height: int
    training_size: tuple[int, int]

    def request(self, trained_prompt: str, checkpoint: str | None) -> GenerationRequest:
        """The generation of one preview, with the checkpoint of this title."""
        # The model in training has whole weights, which is the one to draw with.
        overrides: dict[str, JsonValue] = {"fp8_storage": "Disable", "samples_save": False, "return_grid": False}
        if checkpoint is not None:
            overrides["sd_model_checkpoint"] = checkpoint
        if not self.own_prompt:
            width, height = self.training_size
            return GenerationRequest(
                prompt=trained_prompt,
                steps=20,
                width=width,
                height=height,
                seed=self.seed,
                override_settings=overrides,
            )
        return GenerationRequest(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            steps=self.steps,
            sampler_name=self.sampler,
            cfg_scale=self.cfg_scale,
            seed=self.seed,
            width=self.width,
            height=self.height,
            override_settings=overrides,
        )


def draw_preview(
    options: PreviewOptions,
    prompt: str,
    learner: Learner,
    model: TrainableModel,
    services: Services,
    control: JobControl,
) -> GeneratedImage | None:
    """A picture with what ``learner`` has learnt; afterwards the model is as training needs it.

    None where the job was interrupted before there was anything to show.

    :raises LatentdError: as a generation does. :raises Interrupted: the job was stopped.
    """
    request = options.request(prompt, model.model.info.title)
    model.reload()
    try:
        with learner.showing(services) as hooks:
            result = draw_beside(request, services, control, hooks=hooks)
    finally:
        model.reload()
        model.settle()
    if not result.images:
        return None
    picture = result.images[0]
    control.set_preview(picture.image)
    return picture


def captioned(picture: Image, title: str, footers: Sequence[str]) -> Image:
    """``picture`` with a title at its top and footers left, in the middle and right of its bottom, on dark bands."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=max(9, picture.width // 24))
    band = picture.height // 8
    shaded = picture.convert("RGB")
    dark = Image.new("RGB", (picture.width, band), (0, 0, 0))
    for top in (0, picture.height - band):
        below = shaded.crop((0, top, picture.width, top + band))
        shaded.paste(Image.blend(below, dark, 0.6), (0, top))
    draw = ImageDraw.Draw(shaded)
    margin, foot = picture.width // 32, picture.height - band // 2
    draw.text((margin, band // 2), title, fill="white", font=font, anchor="lm")
    places = ((margin, "lm"), (picture.width // 2, "mm"), (picture.width - margin, "rm"))
    small = ImageFont.load_default(size=max(8, picture.width // 36))
    for (x, anchor), text in zip(places, footers, strict=True):
        draw.text((x, foot), text, fill="white", font=small, anchor=anchor)
    return shaded
