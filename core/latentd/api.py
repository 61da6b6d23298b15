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
from latentd.models.folders import find_models
from latentd.models.pickle_walk import walk_pickle
from latentd.models.safetensors_header import read_header
from latentd.plugins.blame import blamed, owner_of
from latentd.plugins.catalogue import install_hint
from latentd.regular import check_regular, is_regular, open_regular, read_regular
from latentd.sampling.spec import SamplerSpec, SchedulerSpec
from latentd.services import Generation, Services
from latentd.types import (
    Attend,
    AttentionHandler,
    AttentionSite,
    BlockHandler,
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

    from latentd.images.tiles import upscale_tiled
    from latentd.models.state_dict import open_state_dict as read_weights
    from latentd.server.schemas.generation import Img2ImgRequest, Txt2ImgRequest

# What costs time to import comes when it is asked for: name → where it lives.
_LATE = {
    "APIRouter": "fastapi:APIRouter",
    "Label": "latentd.images.annotations:Label",
    "LegendStyle": "latentd.images.annotations:LegendStyle",
    "ScriptCall": "latentd.pipeline.plan:ScriptCall",
    "ScriptRuns": "latentd.pipeline.script_runs:ScriptRuns",
    "check_images": "latentd.pipeline.limits:check_images",
    "check_size": "latentd.pipeline.limits:check_size",
    "annotate_grid": "latentd.images.annotations:annotate_grid",
    "cut_out": "latentd.images.fill:cut_out",
    "cut_tiles": "latentd.images.tiles:cut_tiles",
    "find_noise": "latentd.pipeline.inversion:find_noise",
    "flatten": "latentd.images.transparency:flatten",
    "grid_rows": "latentd.images.grid:grid_rows",
    "join_tiles": "latentd.images.tiles:join_tiles",
    "make_grid": "latentd.images.grid:make_grid",
    "plan_tiles": "latentd.images.tiles:plan_tiles",
    "prompt_matrix_legends": "latentd.images.annotations:prompt_matrix_legends",
    "uncrop": "latentd.images.inpaint:uncrop",
    "Img2ImgRequest": "latentd.server.schemas.generation:Img2ImgRequest",
    "Txt2ImgRequest": "latentd.server.schemas.generation:Txt2ImgRequest",
    "answer_generation": "latentd.server.routes.generation:answer_generation",
    "build_module": "latentd.models.build:assemble",
    "encode_pictures": "latentd.models.vae:encode",
    "load_pickle": "latentd.models.unpickle:load_pickle",
    "reply_of": "latentd.server.openapi:reply_of",
    "prepare_mask": "latentd.images.masks:prepare_mask",
    "read_weights": "latentd.models.state_dict:open_state_dict",
    "resize_image": "latentd.images.resize:resize_image",
    "upscale_tiled": "latentd.images.tiles:upscale_tiled",
    "unet_key": "latentd.models.convert:unet_key",
    "weights_from_tensors": "latentd.models.state_dict:from_tensors",
}

__all__ = [
    "APIRouter",
    "ArgInfo",
    "Attend",
    "AttentionHandler",
    "AttentionSite",
    "BlockHandler",
    "BlockSite",
    "ExtraNetworkSpec",
    "FaceRestorerSpec",
    "GeneratedImage",
    "Generation",
    "GenerationRequest",
    "HealthSpec",
    "Img2ImgRequest",
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
    "Txt2ImgRequest",
    "UNetCall",
    "UNetHook",
    "UpscaleContext",
    "UpscalerSpec",
    "blamed",
    "check_regular",
    "find_models",
    "hookimpl",
    "install_hint",
    "is_regular",
    "near_matches",
    "owner_of",
    "open_regular",
    "read_header",
    "read_regular",
    "read_weights",
    "upscale_tiled",
    "walk_pickle",
]


def __getattr__(name: str) -> Any:
    # FastAPI costs most of a second to import and torch several; a plugin that needs neither should not pay for them.
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = _LATE[name].partition(":")
    return getattr(import_module(module), attribute)
