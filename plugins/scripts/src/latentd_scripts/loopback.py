"""The script ``Loopback``: each result is the next pass's init picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from latentd.api import (
    GeneratedImage,
    GenerationRequest,
    InvalidRequest,
    JobControl,
    JsonValue,
    NotConfigured,
    Plan,
    Result,
    ScriptRuns,
    Services,
    install_hint,
    make_grid,
)
from latentd_scripts.arguments import Arguments, FormScript, control

_CURVES: dict[str, Callable[[float], float]] = {
    "Linear": lambda share: share,
    "Aggressive": lambda share: math.sin(share * math.pi / 2),
    "Lazy": lambda share: 1 - math.cos(share * math.pi / 2),
}
_INTERROGATORS = {"CLIP": "clip", "DeepBooru": "deepdanbooru"}
_ORIGINAL = 1


class LoopbackArgs(Arguments):
    """``script_args`` of ``Loopback``."""

    loops: int = control(4, "Loops", minimum=1, maximum=32, step=1, ge=1, le=1000)
    final_denoising_strength: float = control(
        0.5, "Final denoising strength", minimum=0, maximum=1, step=0.01, ge=0, le=1
    )
    curve: Literal["Aggressive", "Linear", "Lazy"] = control(
        "Linear", "Denoising strength curve", choices=("Aggressive", "Linear", "Lazy")
    )
    append_interrogation: Literal["None", "CLIP", "DeepBooru"] = control(
        "None", "Append interrogated prompt at each iteration", choices=("None", "CLIP", "DeepBooru")
    )


class Loopback(FormScript[LoopbackArgs]):
    """img2img of img2img, with a strength that changes along a curve and a seed that counts up."""

    title = "Loopback"
    modes = ("img2img",)
    Args = LoopbackArgs

    def plan(self, plan: Plan, args: LoopbackArgs, services: Services) -> None:
        """Check the request.

        :raises InvalidRequest: more than one init picture.
        :raises NotConfigured: the interrogator is missing.
        """
        if len(plan.request.init_images) > 1:
            raise InvalidRequest("Loopback takes one init image")
        name = _INTERROGATORS.get(args.append_interrogation)
        if name is not None and services.registry.interrogators.find(name) is None:
            raise NotConfigured(f"Interrogator {name!r} not found", hint=install_hint("interrogators"))
        runs = ScriptRuns(services, plan, None)
        one = runs.plan_for(replace(runs.request, n_iter=1, batch_size=1), grid=False)
        runs.check_total([one], args.loops * plan.n_iter)

    def run(self, services: Services, plan: Plan, args: LoopbackArgs, control: JobControl) -> Result:
        """The pictures of all loops, with a grid first where the options ask for one."""
        return _Loops(ScriptRuns(services, plan, control), args).run()


class _Loops:
    """The passes of one job and their results."""

    def __init__(self, runs: ScriptRuns, args: LoopbackArgs) -> None:
        self.runs = runs
        self.args = args
        self.batches = runs.plan.n_iter
        self.history: list[GeneratedImage] = []
        self.first: dict[str, JsonValue] = {}
        self.last: dict[str, JsonValue] = {}
        # img2img has one, planned from the option where the request gives none.
        assert runs.plan.denoising_strength is not None
        self.strength = self.first_strength = runs.plan.denoising_strength

    def run(self) -> Result:
        self.runs.start(self.args.loops * self.batches)
        seed = self.runs.request.seed
        for batch in range(self.batches):
            seed = self._batch(batch, seed)
            if self.runs.interrupted:
                break
        return self._reply()

    def _batch(self, batch: int, seed: int) -> int:
        """Run the loops of one batch from the job's own init picture; returns the seed of the next batch."""
        runs, args = self.runs, self.args
        request = replace(runs.request, n_iter=1, batch_size=1)
        self.strength = self.first_strength
        latest: GeneratedImage | None = None
        for loop in range(args.loops):
            request = replace(self._with_caption(request), seed=seed, denoising_strength=self.strength)
            label = f"Iteration {loop + 1}/{args.loops}, batch {batch + 1}/{self.batches}"
            plan = runs.plan_for(request, grid=False)
            result = runs.generate(plan.with_changes(infotext={**self._notes(), **plan.infotext}), label)
            if runs.interrupted or not result.images:
                break
            self.last = dict(result.info)
            self.first = self.first or self.last
            seed = int(result.info["seed"]) + 1
            self.strength = self._strength_at(loop + 1)
            if runs.skipped:
                break
            latest = result.images[0]
            request = replace(request, init_images=(latest.image,), inpainting_fill=_ORIGINAL)
            if self.batches == 1:
                self.history.append(latest)
        if self.batches > 1 and latest is not None and not runs.interrupted and not runs.skipped:
            self.history.append(latest)
        return seed

    def _strength_at(self, loop: int) -> float:
        first, loops = self.first_strength, self.args.loops
        if loops == 1:
            return first
        return first + (self.args.final_denoising_strength - first) * _CURVES[self.args.curve](loop / (loops - 1))

    def _with_caption(self, request: GenerationRequest) -> GenerationRequest:
        name = _INTERROGATORS.get(self.args.append_interrogation)
        if name is None:
            return request
        own = self.runs.request.prompt
        caption = self.runs.interrogate(name, request.init_images[0])
        return replace(request, prompt=f"{own}, {caption}" if own else caption)

    def _notes(self) -> dict[str, JsonValue]:
        return {
            "Final denoising strength": self.args.final_denoising_strength,
            "Denoising curve": self.args.curve,
        }

    def _reply(self) -> Result:
        runs, images = self.runs, list(self.history)
        if len(images) > 1:
            grid = make_grid([picture.image for picture in images], 1)
            runs.save(grid, None, self.first, grid=True)
            if runs.plan.options["return_grid"]:
                images.insert(0, runs.picture(grid, grid=True))
        changes = {"seed": self.first.get("seed", runs.request.seed), "subseed": -1, "index_of_first_image": 0}
        return runs.reply(
            images,
            self.last,
            **changes,
            denoising_strength=self.strength,
            infotexts=self.first.get("infotexts", [])[:1],
        )
