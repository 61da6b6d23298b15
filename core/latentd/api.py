"""The public face for plugin authors; everything here is kept stable within a minor version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentd.contributions import (
    ArgInfo,
    ExtraNetworkSpec,
    FaceRestorerSpec,
    HealthSpec,
    InterrogatorSpec,
    ModelFile,
    ModelFormatSpec,
    NoArgs,
    OptionSpec,
    PostprocessorSpec,
    PreprocessorSpec,
    Script,
    UpscaleContext,
    UpscalerSpec,
)
from latentd.errors import (
    InvalidImage,
    InvalidRequest,
    LatentdError,
    ModelLoadError,
    NotConfigured,
    NotFound,
    TooLarge,
    near_matches,
)
from latentd.hookspecs import hookimpl
from latentd.sampling.spec import SamplerSpec, SchedulerSpec
from latentd.services import Generation, Services
from latentd.types import (
    AttentionSite,
    BlockSite,
    GeneratedImage,
    GenerationRequest,
    JobControl,
    Residuals,
    Result,
    UNetCall,
    UNetHook,
)

if TYPE_CHECKING:
    from fastapi import APIRouter

__all__ = [
    "APIRouter",
    "ArgInfo",
    "AttentionSite",
    "BlockSite",
    "ExtraNetworkSpec",
    "FaceRestorerSpec",
    "GeneratedImage",
    "Generation",
    "GenerationRequest",
    "HealthSpec",
    "InterrogatorSpec",
    "InvalidImage",
    "InvalidRequest",
    "JobControl",
    "LatentdError",
    "ModelFile",
    "ModelFormatSpec",
    "ModelLoadError",
    "NoArgs",
    "NotConfigured",
    "NotFound",
    "OptionSpec",
    "PostprocessorSpec",
    "PreprocessorSpec",
    "Residuals",
    "Result",
    "SamplerSpec",
    "SchedulerSpec",
    "Script",
    "Services",
    "TooLarge",
    "UNetCall",
    "UNetHook",
    "UpscaleContext",
    "UpscalerSpec",
    "hookimpl",
    "near_matches",
]


def __getattr__(name: str) -> Any:
    # FastAPI costs most of a second to import; a plugin without routes should not pay for it.
    if name == "APIRouter":
        from fastapi import APIRouter

        return APIRouter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
