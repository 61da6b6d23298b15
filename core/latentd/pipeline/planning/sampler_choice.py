"""From the words of a request to a sampler with its schedule."""

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
    """The sampler that a request means; ``warnings`` gains what is said of its schedule.

    A schedule that nobody knows is Automatic, as in AUTOMATIC1111 1.9 and 1.10.

    :raises NotFound: ``Sampler not found``, with near matches.
    """
    catalogue = sampler_catalogue(services)
    found = resolve_sampler(name, scheduler, catalogue)
    if found is None:
        raise NotFound("Sampler not found", hint=near_matches(name, catalogue.names()))
    if scheduler and catalogue.scheduler(scheduler) is None:
        hint = near_matches(scheduler, [spec.label for spec in catalogue.schedulers])
        warnings.append(f"scheduler {scheduler!r} is not known, {AUTOMATIC} is used" + (f": {hint}" if hint else ""))
    # 1.8's clients name samplers; 1.9's name a schedule beside them, and get both words back.
    label = found.sampler.name if found.scheduler is None else name
    choice = SamplerChoice(spec=found.sampler, scheduler=found.scheduler, label=label)
    if choice.scheduler is not None and choice.spec.kind == "timestep":
        reason = f"{choice.spec.name} runs on timesteps of its own"
        warnings.append(f"scheduler {choice.scheduler.label!r} has no effect: {reason}")
    return choice


def scheduler_in_force(
    choice: SamplerChoice, options: OptionValues, catalogue: SamplerCatalogue
) -> SchedulerSpec | None:
    """The schedule that the request names, else the one that option ``k_sched_type`` does; None: the sampler's own."""
    if choice.scheduler is not None:
        return choice.scheduler
    named = str(options["k_sched_type"])
    return None if named == AUTOMATIC or choice.spec.kind == "timestep" else catalogue.scheduler(named)


def schedule_text(choice: SamplerChoice, options: OptionValues, catalogue: SamplerCatalogue) -> str:
    """A name of the schedule in force that means the same when it is given beside ``choice.label``."""
    scheduler = scheduler_in_force(choice, options, catalogue)
    if scheduler is not None:
        return scheduler.label
    # Automatic beside a bare name is the schedule that 1.9 gives it; beside one of 1.8 it was the model's own.
    bare = choice.spec.scheduler is None and choice.spec.automatic_scheduler is not None
    return UNIFORM if bare else AUTOMATIC
