"""Steps of extras on every generated picture, as option ``postprocessing_enable_in_main_ui`` names them.

Each is an always-on script with the name of its step, as in AUTOMATIC1111. Its defaults are neutral, so it acts only if
a request gives it arguments. Positional arguments follow AUTOMATIC1111's form, whose length differs between releases.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel

from latentd.arguments import parse_positional
from latentd.errors import InvalidRequest
from latentd.generations import Script
from latentd.pipeline.extras.run import CODEFORMER, GFPGAN, UPSCALE, ExtrasRequest, check_extras, run_step
from latentd.pipeline.upscaling import worker_context

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.generations import Generation, Plan
    from latentd.services import Services
    from latentd.types import GenerationRequest, RawArgs

OPTION = "postprocessing_enable_in_main_ui"
SIMPLE_UPSCALE = "Simple Upscale"


class StepArgs(BaseModel):
    """The form of a step."""

    @abstractmethod
    def request(self) -> ExtrasRequest:
        """What the step is asked to do."""


class UpscaleArgs(StepArgs):
    """The form of step Upscale in 1.10; 1.8 lacks ``max_side_length``, the first release also ``upscale_enabled``."""

    upscale_enabled: bool = True
    upscale_mode: int = 0
    upscale_by: float = 4.0
    max_side_length: int = 0
    upscale_to_width: int = 512
    upscale_to_height: int = 512
    upscale_crop: bool = True
    upscaler_1_name: str | None = "None"
    upscaler_2_name: str | None = "None"
    upscaler_2_visibility: float = 0.0

    def request(self) -> ExtrasRequest:
        """What the step is asked to do."""
        return ExtrasRequest(
            resize_mode=self.upscale_mode,
            upscaling_resize=self.upscale_by,
            upscaling_resize_w=self.upscale_to_width,
            upscaling_resize_h=self.upscale_to_height,
            upscaling_crop=self.upscale_crop,
            upscaler_1=(self.upscaler_1_name or "None") if self.upscale_enabled else "None",
            upscaler_2=self.upscaler_2_name or "None",
            extras_upscaler_2_visibility=self.upscaler_2_visibility,
            max_side_length=self.max_side_length,
        )


class SimpleUpscaleArgs(StepArgs):
    """The form of step Simple Upscale."""

    upscale_by: float = 2.0
    upscaler_name: str | None = "None"

    def request(self) -> ExtrasRequest:
        """What the step is asked to do."""
        return ExtrasRequest(upscaling_resize=self.upscale_by, upscaler_1=self.upscaler_name or "None")


class GfpganArgs(StepArgs):
    """The form of step GFPGAN; the first one lacks ``enable``."""

    enable: bool = True
    gfpgan_visibility: float = 1.0

    def request(self) -> ExtrasRequest:
        """What the step is asked to do."""
        return ExtrasRequest(gfpgan_visibility=self.gfpgan_visibility if self.enable else 0.0)


class CodeformerArgs(StepArgs):
    """The form of step CodeFormer; the first one lacks ``enable``."""

    enable: bool = True
    codeformer_visibility: float = 1.0
    codeformer_weight: float = 0.0

    def request(self) -> ExtrasRequest:
        """What the step is asked to do."""
        visibility = self.codeformer_visibility if self.enable else 0.0
        return ExtrasRequest(codeformer_visibility=visibility, codeformer_weight=self.codeformer_weight)


class StepScript(Script[ExtrasRequest]):
    """One step of extras as an always-on script; unknown unless the option names it.

    :param step: the step of extras that it runs.
    :param lacking: fields that shorter lists of arguments leave out, those of the newest release first.
    """

    alwayson = True
    listed = False
    Args: type[StepArgs]

    def __init__(self, title: str, args: type[StepArgs], *, step: str, lacking: Sequence[str] = ()) -> None:
        self.title = title
        self.Args = args
        self._step = step
        self._lacking = tuple(lacking)

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> ExtrasRequest:
        """The request for the step, from a list with the length of any release or from an object."""
        names = list(self.Args.model_fields)
        if isinstance(args, Sequence) and not isinstance(args, str):
            for field in self._lacking:
                if len(args) < len(names):
                    names.remove(field)
            args = dict(zip(names, args, strict=False))
        return parse_positional(self.Args, args).request()

    def plan(self, plan: Plan, args: ExtrasRequest, services: Services) -> None:
        """Refuse steps that the option does not name, and unknown names of upscalers and restorers."""
        if self.title not in plan.options[OPTION]:
            raise InvalidRequest(f"Script '{self.title}' not found", hint=f"name it in option {OPTION}")
        check_extras(args, services.registry)

    def postprocess_image(self, generation: Generation, args: ExtrasRequest, image: Image, index: int) -> Image:
        """The picture after the step, which is written into the infotext."""
        services = generation.services
        max_pixels = services.settings.max_pixels
        context = worker_context(generation)
        done = run_step(self._step, image, args, services.registry, context, max_pixels=max_pixels)
        generation.infotext.update(done.entries)
        return done.image


STEP_SCRIPTS = (
    StepScript(UPSCALE, UpscaleArgs, step=UPSCALE, lacking=("max_side_length", "upscale_enabled")),
    StepScript(SIMPLE_UPSCALE, SimpleUpscaleArgs, step=UPSCALE),
    StepScript(GFPGAN, GfpganArgs, step=GFPGAN, lacking=("enable",)),
    StepScript(CODEFORMER, CodeformerArgs, step=CODEFORMER, lacking=("enable",)),
)
