"""The UNet of a generation for one pass, with all hooks that take part in its evaluations."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from latentd.generations import UNetHook
from latentd.models.modules.step_cache import StepCache
from latentd.networks.hypertile import Hypertile
from latentd.pipeline.passes.token_merging import TokenMerging, token_merging_ratio
from latentd.plugins.blame import blamed
from latentd.types import PassName

if TYPE_CHECKING:
    from latentd.models.loaded import LoadedModel
    from latentd.pipeline.generation import RunningGeneration

log = logging.getLogger(__name__)


@contextmanager
def runner_session(gen: RunningGeneration, name: PassName) -> Iterator[None]:
    """A context with the job's handlers on the model's UNet, for one pass; a refiner's UNet joins by ``pass_stack``."""
    gen.pass_name = name
    with ExitStack() as gen.pass_stack:
        enter_runner(gen, gen.model)
        for hook in gen.unet_hooks:
            with blamed(hook.owner, f"UNet hook {type(hook).__name__}.open"):
                hook.open(gen)
        yield


def enter_runner(gen: RunningGeneration, model: LoadedModel) -> None:
    """Put ``model``'s UNet on its device with the job's handlers until the pass ends."""
    upcast = bool(gen.options["upcast_attn"]) or model.policy.upcast_attention
    gen.pass_stack.enter_context(model.part("unet"))
    hooks = (*gen.all_unet_hooks, *_token_merging(gen), *_hypertile(gen))
    cache = StepCache(threshold) if (threshold := float(gen.options["step_cache_threshold"])) > 0 else None
    gen.pass_stack.enter_context(model.unet_runner.session(hooks, upcast_attention=upcast, step_cache=cache))
    if cache is not None:
        gen.pass_stack.callback(_tell, gen, cache)


def _tell(gen: RunningGeneration, cache: StepCache) -> None:
    """Log what the step cache saved in a pass; warn where it could not act."""
    every = cache.reused + cache.computed + cache.passed_over
    log.info("step cache: deep features were reused in %d of %d calls", cache.reused, every)
    if cache.passed_over:
        gen.warn(
            f"step_cache_threshold had no effect in {cache.passed_over} of {every} calls of the UNet, "
            "in which ControlNet or something else took part"
        )


def _token_merging(gen: RunningGeneration) -> Sequence[UNetHook]:
    ratio = token_merging_ratio(gen.options, img2img=gen.plan.is_img2img, hires=gen.pass_name == "hires")
    return [TokenMerging(ratio)] if ratio > 0 else []


def _hypertile(gen: RunningGeneration) -> Sequence[UNetHook]:
    options, hires = gen.options, gen.plan.hires if gen.pass_name == "hires" else None
    if not options["hypertile_enable_unet"] and not (hires and options["hypertile_enable_unet_secondpass"]):
        return []
    rng = gen.tiles()
    if hires:
        rng.seed(gen.plan.seeds[0])
    width, height = (hires.width, hires.height) if hires else (gen.plan.width, gen.plan.height)
    return [
        Hypertile(
            width=width,
            height=height,
            max_tile=int(options["hypertile_max_tile_unet"]),
            swap_size=int(options["hypertile_swap_size_unet"]),
            max_depth=int(options["hypertile_max_depth_unet"]),
            sdxl=gen.model.family.startswith("sdxl"),
            rng=rng,
        )
    ]
