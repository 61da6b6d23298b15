"""The contribution of one plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from latentd.contributions import HealthSpec, ModelFile, ModelFormatSpec, OptionSpec
    from latentd.generations import AnyScript, ExtraNetworkSpec
    from latentd.sampling.spec import SamplerSpec, SchedulerSpec
    from latentd.services import (
        DetectorSpec,
        FaceRestorerSpec,
        InterrogatorSpec,
        PostprocessorSpec,
        PreprocessorSpec,
        UpscalerSpec,
    )


class Router(Protocol):
    """The part of FastAPI's ``APIRouter`` that is used below the server."""

    @property
    def routes(self) -> Sequence[object]:
        """Its routes."""


@dataclass(slots=True)
class Contribution:
    """Everything that one plugin registers; it is registered and removed as a whole."""

    plugin: str
    options: list[OptionSpec] = field(default_factory=list)
    routers: list[Router] = field(default_factory=list)
    samplers: list[SamplerSpec] = field(default_factory=list)
    schedulers: list[SchedulerSpec] = field(default_factory=list)
    upscalers: list[UpscalerSpec] = field(default_factory=list)
    face_restorers: list[FaceRestorerSpec] = field(default_factory=list)
    detectors: list[DetectorSpec] = field(default_factory=list)
    interrogators: list[InterrogatorSpec] = field(default_factory=list)
    preprocessors: list[PreprocessorSpec] = field(default_factory=list)
    scripts: list[AnyScript] = field(default_factory=list)
    postprocessors: list[PostprocessorSpec] = field(default_factory=list)
    extra_networks: list[ExtraNetworkSpec] = field(default_factory=list)
    checkpoints: list[ModelFile] = field(default_factory=list)
    model_formats: list[ModelFormatSpec] = field(default_factory=list)
    health: list[HealthSpec] = field(default_factory=list)
