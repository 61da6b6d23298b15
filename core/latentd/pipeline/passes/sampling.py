"""Sampling passes: one by itself, or several whose latents go through the sampler together.

Passes share the run of the sampler and the calls of the UNet. Noise, prompts, guidance, previews and the way in which a
pass ends are separate for each pass, so that other passes influence a picture only by the rounding of matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from secrets import randbelow

import torch
from torch import Tensor

from latentd.errors import Interrupted
from latentd.pipeline.passes.denoiser import Evaluation
from latentd.pipeline.passes.runner import runner_session
from latentd.pipeline.passes.sampling_pass import Sampling, SamplingPass, T
from latentd.plugins.blame import blamed, like, owner_of
from latentd.sampling.brownian import BrownianNoise
from latentd.sampling.samplers.run import StepInfo
from latentd.types import UNetCall


class _NobodyLeft(Exception):
    """All passes have ended, so the sampler can stop."""


def run_through(stages: Sampling[T]) -> T:
    """The result of ``stages``, with each of its passes sampled by itself.

    :raises Exception: the exception of ``stages``.
    """
    try:
        sampling = next(stages)
        while True:
            sample_together([sampling])
            sampling = resume(stages, sampling)
    except StopIteration as end:
        result: T = end.value
        return result


def resume(stages: Sampling[T], done: SamplingPass) -> SamplingPass:
    """Give ``stages`` the outcome of ``done``; returns its next pass.

    :raises StopIteration: there is no further pass; its value is the result.
    :raises Exception: the exception of ``stages``.
    """
    if done.latents is None:
        assert done.error is not None
        return stages.throw(done.error)
    return stages.send(done.latents)


def sample_together(passes: Sequence[SamplingPass], on_leave: Callable[[SamplingPass], None] | None = None) -> None:
    """Sample ``passes`` with equal model, size, sampler and steps; after that each has its outcome.

    :param on_leave: called for a pass that ends before the others, while these are being sampled.
    :raises Exception: sampling several passes together failed; passes that had not ended have no outcome.
    """
    run = _Run(passes, on_leave)
    try:
        run.sample()
    except _NobodyLeft:
        return
    except Exception as error:
        left = run.staying()
        if len(left) != 1 or len(passes) != 1:
            raise
        left[0].stop(error)


class _Run:
    """One run of the sampler, and the denoiser for it.

    The rows of a pass that has ended are no longer evaluated; the sampler gets zeros for them.
    """

    def __init__(self, passes: Sequence[SamplingPass], on_leave: Callable[[SamplingPass], None] | None) -> None:
        self._passes = list(passes)
        self._on_leave = on_leave
        self._rows: dict[int, slice] = {}
        start = 0
        for p in passes:
            self._rows[id(p)] = slice(start, start := start + p.x.shape[0])

    def staying(self) -> list[SamplingPass]:
        """The passes that have not ended."""
        return [p for p in self._passes if not p.ended]

    def sample(self) -> None:
        """Run the sampler to its end.

        :raises _NobodyLeft: every pass ended early.
        """
        lead = self._passes[0]
        x = torch.cat([p.x for p in self._passes])
        run = lead.sampling_schedule.sampler_run(noise=self._noise, brownian=self._brownian(), on_step=self._step_done)
        with runner_session(lead.gen, lead.inputs.name):
            latents = lead.sampling_schedule.sample(self, x, run)
        sampler = lead.inputs.choice.spec.name
        with blamed(owner_of(lead.gen.services.registry.samplers, sampler), f"sampler {sampler!r}"):
            latents = like(x)(latents)
        for p in self.staying():
            p.finish(latents[self._rows[id(p)]])

    # --- what the sampler uses ---------------------------------------------------------------------------------------

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        evaluations = self._each(lambda p, rows: p.denoiser.prepare(x[rows], level[rows]))
        try:
            outs = self._evaluate(evaluations)
        except Interrupted as error:
            for p in self.staying():
                p.stop(error)
                self._leave(p)
            raise
        predicted = self._each(lambda p, rows: p.denoiser.finish(evaluations[id(p)], outs[id(p)]))
        return self._joined(predicted, x)

    @property
    def last_uncond_eps(self) -> Tensor:
        """The unconditional noise of every row, as in :class:`latentd.pipeline.passes.denoiser.CfgDenoiser`."""
        found = {id(p): e for p in self.staying() if (e := p.denoiser.last_uncond_eps) is not None}
        return self._joined(found, torch.cat([p.x for p in self._passes]))

    def _noise(self) -> Tensor:
        return torch.cat([p.inputs.stream.next() for p in self._passes])

    def _brownian(self) -> BrownianNoise | None:
        lead = self._passes[0]
        if not lead.inputs.choice.spec.brownian:
            return None
        gen, seeds = lead.gen, [seed for p in self._passes for seed in p.inputs.seeds]
        if gen.options["no_dpmpp_sde_batch_determinism"]:
            seeds = [randbelow(2**63) for _ in seeds]
        low, high = lead.sampling_schedule.brownian_range
        source = gen.options["randn_source"]
        return BrownianNoise(tuple(lead.x.shape[1:]), seeds, low, high, source=source, device=gen.device)

    def _step_done(self, info: StepInfo) -> None:
        self._each(lambda p, rows: p.step_done(info.i, info.x[rows]))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _each(self, work: Callable[[SamplingPass, slice], T]) -> dict[int, T]:
        """The results of ``work`` for all passes that have not ended; an exception ends its own pass only."""
        found = {}
        for p in self.staying():
            try:
                found[id(p)] = work(p, self._rows[id(p)])
            except BaseException as error:  # not even SystemExit from a plugin may end the other passes
                p.stop(error)
                self._leave(p)
        return found

    def _leave(self, ended: SamplingPass) -> None:
        if not self.staying():
            raise _NobodyLeft
        if self._on_leave is not None:
            self._on_leave(ended)

    def _evaluate(self, evaluations: dict[int, Evaluation]) -> dict[int, list[Tensor]]:
        """The UNet's outputs for every pass's calls; calls of equal text length are made as one."""
        asked = [(key, number, call) for key, e in evaluations.items() for number, call in enumerate(e.calls)]
        groups: dict[int, list[tuple[int, int, UNetCall]]] = {}
        for entry in asked:
            # The calls of a single pass are not merged, because its hooks expect them separately.
            group = entry[2].context.shape[1] if len(evaluations) > 1 else entry[1]
            groups.setdefault(group, []).append(entry)
        outs: dict[int, list[Tensor]] = {key: [torch.empty(0)] * len(e.calls) for key, e in evaluations.items()}
        lead = self._passes[0].denoiser
        for entries in groups.values():
            calls = [call for _, _, call in entries]
            merged = _merged(calls, [self._rows[key].start for key, _, _ in entries])
            out = lead.view.evaluate(merged, lead.hooks)
            parts = torch.split(out, [call.sample.shape[0] for call in calls])
            for (key, number, _), part in zip(entries, parts, strict=True):
                outs[key][number] = part
        return outs

    def _joined(self, parts: dict[int, Tensor], like: Tensor) -> Tensor:
        missing = torch.zeros_like(like)
        return torch.cat([parts.get(id(p), missing[self._rows[id(p)]]) for p in self._passes])


def _merged(calls: Sequence[UNetCall], starts: Sequence[int]) -> UNetCall:
    """One call with the rows of all ``calls``; ``starts`` are the numbers of their first pictures."""
    first = calls[0]
    if len(calls) == 1 and starts[0] == 0:
        return first
    return UNetCall(
        sample=torch.cat([c.sample for c in calls]),
        sigma=torch.cat([c.sigma for c in calls]),
        timestep=torch.cat([c.timestep for c in calls]),
        context=torch.cat([c.context for c in calls]),
        added=_cat([c.added for c in calls]),
        is_cond=torch.cat([c.is_cond for c in calls]),
        image_index=torch.cat([c.image_index + start for c, start in zip(calls, starts, strict=True)]),
        step=first.step,
        steps=first.steps,
        call_index=first.call_index,
        pass_name=first.pass_name,
        refiner=first.refiner,
        concat=_cat([c.concat for c in calls]),
        check=partial(_check_all, [c.check for c in calls if c.check is not None]),
    )


def _check_all(checks: Sequence[Callable[[], None]]) -> None:
    """Call ``checks``.

    :raises Interrupted: every one of them did; the evaluation is for nobody any more.
    """
    stopped: Interrupted | None = None
    for check in checks:
        try:
            check()
        except Interrupted as error:
            stopped = error
        else:
            return
    if stopped is not None:
        raise stopped


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    found = [p for p in parts if p is not None]
    return torch.cat(found) if len(found) == len(parts) else None
