"""The always-on script ``ControlNet``: reads units, checks them in planning, and runs them on the worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from latentd.api import (
    ArgInfo,
    GeneratedImage,
    Generation,
    GenerationRequest,
    JsonValue,
    Mode,
    Plan,
    Planned,
    RawArgs,
    Script,
    Services,
    UNetHook,
)
from latentd_controlnet.infotext import completed, units_of
from latentd_controlnet.model_files import found_here
from latentd_controlnet.prepared import ControlNetArgs, describe, prepare_units
from latentd_controlnet.unit import read_units, unknown_keys
from latentd_controlnet.unit_schema import UnitBody, default_unit

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from latentd_controlnet.job import ControlJob

LISTED_UNITS = 3
JOB = "controlnet"


class UnitList(BaseModel):
    """``alwayson_scripts.controlnet.args`` in the documentation of the API."""

    model_config = ConfigDict(extra="allow")

    units: list[UnitBody] = Field(default_factory=list, description="Or the units themselves, as a list.")


class ControlNetScript(Script[ControlNetArgs]):
    """Control of generation by pictures; its arguments are a list of any number of units."""

    title = "ControlNet"
    alwayson = True
    Args = UnitList

    def arg_info(self, mode: Mode) -> Sequence[ArgInfo]:
        """One row for each unit, as in the original."""
        return [ArgInfo(label="", value=default_unit()) for _ in range(LISTED_UNITS)]

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> ControlNetArgs | None:
        """The enabled units; None if there are none.

        :raises InvalidRequest: a unit cannot be read.
        """
        is_seed = isinstance(args, Mapping) and args.get("style") == "seed"
        units = read_units(args or (), style="seed" if is_seed else "alwayson")
        return ControlNetArgs(tuple(units)) if units else None

    def ignored_args(self, args: RawArgs, request: GenerationRequest) -> Sequence[str]:
        """Unknown keys of units."""
        return unknown_keys(args or ())

    def from_infotext(
        self, entries: Mapping[str, JsonValue], args: JsonValue, mode: Mode
    ) -> list[JsonValue] | str | None:
        """The units in the infotext, with the pictures that the request gives or those of img2img."""
        told = units_of(entries)
        if told and args is None:
            missing = "ControlNet's pictures do not stand in it: give them as units with an image and nothing else"
            return [told[number] for number in sorted(told)] if mode == "img2img" else missing
        given = isinstance(args, Sequence) and not isinstance(args, str)
        return completed(args, told) if told and given else None

    def plan(self, plan: Plan, args: ControlNetArgs, services: Services) -> Planned[ControlNetArgs]:
        """The units, checked.

        :raises InvalidRequest: an enabled unit cannot act; the message says why.
        """
        return Planned(args=replace(args, prepared=prepare_units(args.units, plan, services)))

    def model_files(self, services: Services, plan: Plan, args: ControlNetArgs) -> Sequence[Path]:
        """The units' control models."""
        return [prepared.file.path for prepared in args.prepared if prepared.file is not None]

    def before_process(self, generation: Generation, args: ControlNetArgs) -> None:
        """Load the control models, so that an unusable file fails the job before anything is computed."""
        from latentd_controlnet.job import ControlJob

        entries = {f"ControlNet {p.index}": text for p in args.prepared if (text := describe(p)) is not None}
        # The original writes its units into the infotext before everything that sampling writes.
        rest = dict(generation.infotext)
        generation.infotext.clear()
        generation.infotext.update(entries | rest)
        services = generation.services
        here = (replace(p, file=found_here(p.file, services)) if p.file else p for p in args.prepared)
        generation.state[JOB] = ControlJob(tuple(here), generation)

    def unet_hooks(self, generation: Generation, args: ControlNetArgs) -> Sequence[UNetHook]:
        """The hooks of the units, in their order."""
        return self._job(generation).hooks

    def before_batch(self, generation: Generation, args: ControlNetArgs) -> None:
        """Make the control maps, once for the job."""
        self._job(generation).make_maps(generation)

    def modify_noise(self, generation: Generation, args: ControlNetArgs, noise: Tensor) -> Tensor:
        """A pass's start noise [B,C,h,w], changed by units with LaMa."""
        return self._job(generation).start_noise(generation, noise)

    def postprocess_image(self, generation: Generation, args: ControlNetArgs, image: Image, index: int) -> Image:
        """A finished picture, changed by recolour and inpaint_only."""
        return self._job(generation).finish(image)

    def after_process(self, generation: Generation, args: ControlNetArgs, images: list[GeneratedImage]) -> None:
        """Append the control maps, in the order of the units."""
        from PIL import Image

        job = self._job(generation)
        if not generation.options["control_net_no_detectmap"] and not self._is_upscale(generation):
            images += [GeneratedImage(image=Image.fromarray(shown), role="extra") for shown in job.shown_maps()]
        job.save_maps(generation)

    @staticmethod
    def _job(generation: Generation) -> ControlJob:
        job: ControlJob = generation.state[JOB]
        return job

    @staticmethod
    def _is_upscale(generation: Generation) -> bool:
        return any("sd upscale" in key.lower() for key in generation.infotext)
