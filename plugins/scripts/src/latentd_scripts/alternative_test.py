"""The script ``img2img alternative test``: sampling from the noise from which the init picture would have come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from latentd.api import (
    Generation,
    GenerationRequest,
    JobControl,
    JsonValue,
    Plan,
    RawArgs,
    Result,
    Script,
    ScriptCall,
    ScriptRuns,
    Services,
)
from latentd_scripts.arguments import UNUSED, Arguments, FormScript, Number, control

if TYPE_CHECKING:
    from torch import Tensor

#: If the last argument is missing, AUTOMATIC1111 uses the first one of the next script in its list: Loopback's loops.
_NEIGHBOURS_FIRST = 4


class AlternativeTestArgs(Arguments):
    """``script_args`` of ``img2img alternative test``."""

    remark: JsonValue = UNUSED
    override_sampler: bool = control(True, "Override `Sampling method` to Euler?(this method is built for it)")
    override_prompt: bool = control(
        True, "Override `prompt` to the same value as `original prompt`?(and `negative prompt`)"
    )
    original_prompt: str = control("", "Original prompt")
    original_negative_prompt: str = control("", "Original negative prompt")
    override_steps: bool = control(True, "Override `Sampling Steps` to the same value as `Decode steps`?")
    decode_steps: int = control(50, "Decode steps", minimum=1, maximum=150, step=1, ge=1, le=1000)
    override_strength: bool = control(True, "Override `Denoising strength` to 1?")
    decode_cfg: Number = control(1.0, "Decode CFG scale", minimum=0.0, maximum=15.0, step=0.1)
    randomness: Number = control(0.0, "Randomness", minimum=0.0, maximum=1.0, step=0.01, ge=0, le=1)
    sigma_adjustment: Number = control(False, "Sigma adjustment for finding noise for image")


class AlternativeTest(FormScript[AlternativeTestArgs]):
    """Euler steps up to noise with the original prompt, then down again with the new one."""

    title = "img2img alternative test"
    modes = ("img2img",)
    Args = AlternativeTestArgs
    note = "* `CFG Scale` should be 2 or lower."

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> AlternativeTestArgs | None:
        """The arguments; the last one of a list may be missing."""
        if isinstance(args, (list, tuple)) and len(args) == len(AlternativeTestArgs.model_fields) - 1:
            args = [*args, _NEIGHBOURS_FIRST]
        return super().parse_args(args, request)

    def plan(self, plan: Plan, args: AlternativeTestArgs, services: Services) -> None:
        """Check the request with its overrides.

        :raises LatentdError: it cannot be carried out.
        """
        runs = ScriptRuns(services, plan, None)
        runs.plan_for(_overridden(runs, args))

    def run(self, services: Services, plan: Plan, args: AlternativeTestArgs, control: JobControl) -> Result:
        """The pictures of all batches, each from the noise found for the init picture."""
        runs = ScriptRuns(services, plan, control)
        changed = runs.plan_for(_overridden(runs, args))
        notes = {
            "Decode prompt": args.original_prompt,
            "Decode negative prompt": args.original_negative_prompt,
            "Decode CFG scale": args.decode_cfg,
            "Decode steps": args.decode_steps,
            "Randomness": args.randomness,
            "Sigma Adjustment": args.sigma_adjustment,
        }
        call = ScriptCall(script=_FoundNoise(), args=args)
        return runs.generate(
            changed.with_changes(alwayson=(*changed.alwayson, call), infotext={**notes, **changed.infotext})
        )


def _overridden(runs: ScriptRuns, args: AlternativeTestArgs) -> GenerationRequest:
    request = runs.request
    if args.override_sampler:
        request = replace(request, sampler_name="Euler", scheduler=None)
    if args.override_prompt:
        request = replace(request, prompt=args.original_prompt, negative_prompt=args.original_negative_prompt)
    if args.override_steps:
        request = replace(request, steps=args.decode_steps)
    if args.override_strength:
        request = replace(request, denoising_strength=1.0)
    # One picture at a time, once for each batch.
    return replace(request, batch_size=1)


@dataclass
class _Kept:
    noise: Tensor
    sigma_max: float


class _FoundNoise(Script[AlternativeTestArgs]):
    """Replaces the start noise of every batch by the noise that leads to the init picture."""

    title = "img2img alternative test (noise)"

    def modify_noise(self, generation: Generation, args: AlternativeTestArgs, noise: Tensor) -> Tensor:
        from latentd.api import find_noise

        kept = generation.state.get(self.title)
        if kept is None:
            found = find_noise(
                generation,
                prompt=args.original_prompt,
                negative_prompt=args.original_negative_prompt,
                cfg_scale=float(args.decode_cfg),
                steps=args.decode_steps,
                by_sigma=bool(args.sigma_adjustment),
            )
            kept = generation.state[self.title] = _Kept(*found)
        share = float(args.randomness)
        mixed: Tensor = ((1 - share) * kept.noise + share * noise) / (share**2 + (1 - share) ** 2) ** 0.5
        start = generation.img2img
        assert start is not None  # found by find_noise
        return mixed - start.latent / kept.sigma_max
