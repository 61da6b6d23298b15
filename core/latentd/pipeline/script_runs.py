"""Tools for selectable scripts: further generations, their progress, saving, and one reply for all."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.errors import NotConfigured
from latentd.infotext.build import with_entries
from latentd.pipeline.needs import for_planning, for_worker
from latentd.pipeline.output.describe import name_limits, style_prompts
from latentd.pipeline.output.saving import write_picture
from latentd.pipeline.planning.limits import check_images, check_pixels, largest_area
from latentd.pipeline.planning.replan import replan
from latentd.pipeline.upscaling import caption_with, upscale_function
from latentd.plugins.catalogue import INTERROGATORS, install_hint
from latentd.prompts.filenames import FileContext
from latentd.services import WorkerContext
from latentd.types import GeneratedImage, GenerationRequest, Result

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.generations import Plan
    from latentd.services import Services
    from latentd.types import JobControl, JsonValue

_NO_GRID = {"return_grid": False, "grid_save": False}


class ScriptRuns:
    """The generations of one selectable script.

    :param control: the job's control; None while the script plans.
    :ivar plan: the job's plan.
    :ivar request: the job's request without the script and with fixed seeds, from which requests for :meth:`plan_for`
        are made.
    """

    def __init__(self, services: Services, plan: Plan, control: JobControl | None) -> None:
        self.services = services
        self.plan = plan
        self._control = control
        self.request: GenerationRequest = replace(
            plan.request, script_name=None, script_args=(), seed=plan.seeds[0], subseed=plan.subseeds[0]
        )

    @property
    def control(self) -> JobControl:
        """The job's control, for progress and for finding out whether to stop.

        :raises RuntimeError: the script is planning, so there is no job yet.
        """
        if self._control is None:
            raise RuntimeError("a script that plans has no job yet")
        return self._control

    # --- generations -------------------------------------------------------------------------------------------------

    def plan_for(self, request: GenerationRequest, *, grid: bool = True, save: bool = True) -> Plan:
        """The plan of one of the script's generations, with the options of the job.

        :param grid: False for a generation without its own grid.
        :param save: False to save no pictures.
        :raises LatentdError: as for planning a request.
        """
        if not grid:
            request = replace(request, override_settings={**request.override_settings, **_NO_GRID})
        if not save:
            request = replace(request, save_images=False)
        return replan(self.plan, request, for_planning(self.services))

    def check_total(self, plans: Sequence[Plan], times: int = 1) -> None:
        """Refuse a script whose generations are small enough each but too large together; to be called in planning.

        :param plans: the generations.
        :param times: how often each is made.
        :raises TooLarge: they are over ``--max-images`` or ``--max-total-mp``.
        """
        settings = self.services.settings
        check_images(times * sum(len(plan.prompts) for plan in plans), settings)
        check_pixels(0, times * sum(len(plan.prompts) * largest_area(plan) for plan in plans), settings)

    def start(self, generations: int) -> None:
        """Set the number of batches for progress; with hires fix each counts twice."""
        self.control.progress.job_count = generations * (2 if self.plan.hires else 1)

    def generate(self, plan: Plan, label: str | None = None) -> Result:
        """The result of ``plan``; ``label`` is the job's text in ``/sdapi/v1/progress``.

        :raises Interrupted: the job was cancelled.
        """
        from latentd.pipeline.run import generate

        if label is not None:
            self.control.progress.job = label
        return generate(plan, for_worker(self.services), self.control)

    @property
    def interrupted(self) -> bool:
        """Whether no further generation is wanted."""
        return self.control.stop_requested() in ("interrupt", "cancel")

    @property
    def skipped(self) -> bool:
        """Whether the last generation ended early because of a skip."""
        return bool(self.control.stop_requested() == "skip")

    # --- pictures ----------------------------------------------------------------------------------------------------

    def context(self) -> WorkerContext:
        """The context for upscalers and interrogators."""
        return WorkerContext(
            options=self.plan.options,
            device=str(self.services.models.policy.device),
            check=self.control.check,
            services=self.services,
        )

    def upscale(self, name: str, image: Image, factor: float) -> Image:
        """``image`` enlarged by the upscaler ``name`` to a size by AUTOMATIC1111's rule (rules: a1111-extras)."""
        return upscale_function(self.services.registry, name, self.context())(image, factor)

    def interrogate(self, name: str, image: Image) -> str:
        """The interrogator's caption of ``image``.

        :raises NotConfigured: there is no such interrogator.
        """
        found = self.services.registry.interrogators.find(name)
        if found is None:
            raise NotConfigured(f"Interrogator {name!r} not found", hint=install_hint(INTERROGATORS))
        return caption_with(self.services.registry, found, image, self.context())

    # --- the reply ---------------------------------------------------------------------------------------------------

    def picture(self, image: Image, infotext: str | None = None, *, grid: bool = False) -> GeneratedImage:
        """``image`` for the reply, with its infotext if options ask for that."""
        info = {"parameters": infotext} if infotext and self.plan.options["enable_pnginfo"] else {}
        return GeneratedImage(image=image, infotext=infotext, info=info, role="grid" if grid else "image")

    @staticmethod
    def annotated(infotext: str, entries: Mapping[str, JsonValue]) -> str:
        """``infotext`` with further entries at its end, before the version."""
        return with_entries(infotext, entries)

    def reply(self, images: Sequence[GeneratedImage], info: Mapping[str, JsonValue], **changes: JsonValue) -> Result:
        """The script's result; its document is ``info`` of one of its generations with ``changes``."""
        interrupted = bool(self.control.progress.interrupted)
        return Result(images=tuple(images), info={**info, **changes}, interrupted=interrupted)

    def save(
        self,
        image: Image,
        infotext: str | None,
        info: Mapping[str, JsonValue],
        *,
        basename: str = "",
        grid: bool = False,
    ) -> Path | None:
        """Save a picture that the script has made; returns None if the request or the options do not ask for that.

        :param info: the document of the generation whose values are used in the file name.
        :param basename: text before the file's number.
        """
        options, kind = self.plan.options, self.plan.request.mode
        if not self.plan.request.save_images or not options["grid_save" if grid else "samples_save"]:
            return None
        saved = write_picture(
            image,
            self._file_context(image, info),
            infotext,
            options,
            folder=self.services.paths.resolve(options[f"outdir_{kind}_{'grids' if grid else 'samples'}"]),
            basename=basename,
            format=options["grid_format" if grid else "samples_format"],
            grid=grid,
            warn=self.control.warn,
        )
        return saved.image if saved is not None else None

    def _file_context(self, image: Image, info: Mapping[str, JsonValue]) -> FileContext:
        plan = self.plan
        return FileContext(
            now=datetime.datetime.now().astimezone(),
            prompt=info["prompt"],
            negative_prompt=info["negative_prompt"],
            seed=info["seed"],
            seeds=info["all_seeds"],
            steps=info["steps"],
            cfg_scale=info["cfg_scale"],
            width=image.width,
            height=image.height,
            styles=plan.styles,
            style_prompts=style_prompts(plan, self.services),
            sampler=info["sampler_name"],
            scheduler=plan.sampler.scheduler.label if plan.sampler.scheduler else None,
            model_hash=info["sd_model_hash"],
            model_name=info["sd_model_name"],
            vae_file=info["sd_vae_name"],
            clip_skip=info["clip_skip"],
            denoising_strength=info["denoising_strength"],
            job_timestamp=info["job_timestamp"],
            image_bytes=image.tobytes,
            **name_limits(self.services.settings, plan.options),
        )
