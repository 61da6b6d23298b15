"""The core's samplers and noise schedules."""

from __future__ import annotations

from latentd.hookspecs import hookimpl
from latentd.sampling.catalogue import SAMPLERS_1_8, SAMPLERS_LATER, SCHEDULERS
from latentd.sampling.spec import SamplerSpec, SchedulerSpec


@hookimpl
def register_samplers() -> list[SamplerSpec]:
    """AUTOMATIC1111's samplers in its order, then those of later releases."""
    return [*SAMPLERS_1_8, *SAMPLERS_LATER]


@hookimpl
def register_schedulers() -> list[SchedulerSpec]:
    """AUTOMATIC1111 1.10's schedules in its order."""
    return list(SCHEDULERS)
