"""From the names in a request to a sampler with its schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.errors import NotFound, near_matches
from latentd.generations import SamplerChoice
from latentd.sampling.catalogue import SamplerCatalogue, resolve_sampler
from latentd.sampling.spec import SchedulerSpec

if TYPE_CHECKING:
    from latentd.pipeline.needs import PlanningServices
    from latentd.types import OptionValues

AUTOMATIC = "Automatic"
UNIFORM = "Uniform"


def sampler_catalogue(services: PlanningServices) -> SamplerCatalogue:
    """The registered samplers and schedulers."""
    registry = services.registry
    return SamplerCatalogue(samplers=registry.samplers.values(), schedulers=registry.schedulers.values())


def choose_sampler(services: PlanningServices, name: str, scheduler: str | None, warnings: list[str]) -> SamplerChoice:
    """The sampler that a request means; warnings about its schedule are added to ``warnings``.

    An unknown schedule counts as Automatic, as in AUTOMATIC1111 1.9 and 1.10.

    :raises NotFound: ``Sampler not found``, with near matches.
    """
    catalogue = sampler_catalogue(services)
    found = resolve_sampler(name, scheduler, catalogue)
    if found is None:
        raise NotFound("Sampler not found", hint=near_matches(name, catalogue.names()))
    if scheduler and catalogue.scheduler(scheduler) is None:
        hint = near_matches(scheduler, [spec.label for spec in catalogue.schedulers])
        warnings.append(f"scheduler {scheduler!r} is not known, {AUTOMATIC} is used" + (f": {hint}" if hint else ""))
    # Clients of 1.8 send the name of a sampler; those of 1.9 also send a schedule, and get both names back.
    label = found.sampler.name if found.scheduler is None else name
    choice = SamplerChoice(spec=found.sampler, scheduler=found.scheduler, label=label)
    if choice.scheduler is not None and choice.spec.kind == "timestep":
        reason = f"{choice.spec.name} runs on timesteps of its own"
        warnings.append(f"scheduler {choice.scheduler.label!r} has no effect: {reason}")
    return choice


def scheduler_in_force(
    choice: SamplerChoice, options: OptionValues, catalogue: SamplerCatalogue
) -> SchedulerSpec | None:
    """The schedule named by the request, or else by option ``k_sched_type``; None for the sampler's own."""
    if choice.scheduler is not None:
        return choice.scheduler
    named = str(options["k_sched_type"])
    return None if named == AUTOMATIC or choice.spec.kind == "timestep" else catalogue.scheduler(named)


def schedule_text(choice: SamplerChoice, options: OptionValues, catalogue: SamplerCatalogue) -> str:
    """The name of the schedule that, given together with ``choice.label``, means the schedule that is used."""
    scheduler = scheduler_in_force(choice, options, catalogue)
    if scheduler is not None:
        return scheduler.label
    # With a sampler's name alone, Automatic means the schedule that 1.9 has for it; in 1.8 it was the model's own.
    bare = choice.spec.scheduler is None and choice.spec.automatic_scheduler is not None
    return UNIFORM if bare else AUTOMATIC
