"""The public interface for plugin authors; everything here is kept stable within a minor version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentd.atomic import write_atomically
from latentd.contributions import ArgInfo, HealthSpec, ModelFile, ModelFormatSpec, NoArgs, OptionSpec
from latentd.errors import (
    Conflict,
    DeviceLost,
    Interrupted,
    InvalidImage,
    InvalidRequest,
    LatentdError,
    ModelLoadError,
    NotConfigured,
    NotFound,
    NotStored,
    TooLarge,
    near_matches,
)
from latentd.executors import (
    DeviceTrouble,
    Executor,
    ExecutorEvents,
    ExecutorJob,
    Home,
    JobObserver,
    NeededFile,
    Place,
    PortableWork,
    Runner,
)
from latentd.generations import (
    AnyScript,
    ExtraNetworkSpec,
    Generation,
    HiresPlan,
    Img2imgInit,
    Img2imgStart,
    MaskBlend,
    Plan,
    Planned,
    Script,
    ScriptCall,
    UNetHook,
)
from latentd.hookspecs import hookimpl
from latentd.job_services import JobEvent, JobEvents, Queue, WorkJob
from latentd.logged_job import job_of
from latentd.model_services import Cache, CacheReport, Checkpoint, Model, Models
from latentd.models.files.folders import find_models
from latentd.models.files.hashes import HashCache
from latentd.models.files.safetensors_header import read_header
from latentd.models.files.shapes import read_shapes
from latentd.networks.activations import hypernetwork_activation, hypernetwork_activations
from latentd.plugins.blame import blamed, owner_of
from latentd.plugins.catalogue import install_hint
from latentd.regular import check_regular, is_regular, open_regular, read_regular
from latentd.sampling.spec import SamplerSpec, SchedulerSpec
from latentd.services import (
    Detection,
    DetectorSpec,
    FaceRestorerSpec,
    InterrogatorSpec,
    Offered,
    Options,
    Paths,
    PostprocessorSpec,
    PreprocessorSpec,
    Registered,
    Services,
    UpscaleContext,
    UpscalerSpec,
    WorkerContext,
)
from latentd.settings import Settings
from latentd.types import (
    Attend,
    AttentionHandler,
    AttentionSite,
    BlockHandler,
    BlockSite,
    EntryHandler,
    Evaluate,
    GeneratedImage,
    GenerationRequest,
    GuidedStep,
    JobControl,
    JsonValue,
    Mode,
    Predict,
    ProgressState,
    RawArgs,
    Residuals,
    Result,
    UNetCall,
    Window,
)

if TYPE_CHECKING:
    from latentd.conditioning.embeddings import Embedding
    from latentd.conditioning.embeddings import look_at as read_embedding
    from latentd.conditioning.pixel_data import with_embedding as hide_embedding
    from latentd.engine.executor import Engine as QueueExecutor
    from latentd.engine.far import FarChannel, FarLink, FarMessage, FarNews, LinkLost
    from latentd.engine.far import Ready as FarReady
    from latentd.engine.far import Unable as FarUnable
    from latentd.engine.far_runner import FarRunner
    from latentd.images.annotations import Label, LegendStyle, annotate_grid, prompt_matrix_legends
    from latentd.images.codecs import encode_image as picture_bytes
    from latentd.images.codecs import open_image as open_picture
    from latentd.images.fill import cut_out
    from latentd.images.grid import grid_rows, make_grid
    from latentd.images.inpaint import uncrop
    from latentd.images.masks import prepare_mask
    from latentd.images.region import Box, expand_box, masked_box
    from latentd.images.resize import resize_image
    from latentd.images.tiles import cut_tiles, join_tiles, plan_tiles, upscale_tiled
    from latentd.images.transparency import flatten
    from latentd.models.files.state_dict import StateDict
    from latentd.models.files.state_dict import from_tensors as weights_from_tensors
    from latentd.models.files.state_dict import open_state_dict as read_weights
    from latentd.models.files.unpickle import load_pickle
    from latentd.models.free_memory import require_memory
    from latentd.models.loading.build import assemble as build_module
    from latentd.models.loading.convert import unet_key
    from latentd.models.loading.onnx import OnnxModel, open_onnx
    from latentd.models.vae import encode_pictures
    from latentd.pipeline.beside import check_generation, draw_beside, draw_within, plan_within
    from latentd.pipeline.output.saving import save_intermediate
    from latentd.pipeline.passes.conditioning import encode_prompt
    from latentd.pipeline.passes.inversion import find_noise
    from latentd.pipeline.planning.limits import check_cover, check_images, check_length, check_pixels, check_size
    from latentd.pipeline.script_runs import ScriptRuns
    from latentd.pipeline.trainable import EncodedTexts, TrainableLayer, TrainableModel, trainable_model
    from latentd.server.far_worker import serve_far
    from latentd.server.fetch import post_to
    from latentd.server.middleware import name_job
    from latentd.server.openapi import reply_of
    from latentd.server.routes.generation import answer_generation, await_job, queue_generation
    from latentd.server.routes.jobs import accepted as accept_job
    from latentd.server.routing import APIRouter
    from latentd.server.schemas.generation import Img2ImgRequest, Txt2ImgRequest
    from latentd.server.schemas.jobs import JobAccepted
    from latentd.server.schemas.lenient import Bool as LenientBool
    from latentd.server.schemas.lenient import Float as LenientFloat
    from latentd.server.schemas.lenient import Int as LenientInt
    from latentd.server.schemas.lenient import LenientModel
    from latentd.server.schemas.lenient import Seed as LenientSeed
    from latentd.server.schemas.lenient import Str as LenientStr
    from latentd.server.work import import_pipeline

# Names whose import takes time are imported when they are used: name → module, the same as in the imports above.
_LATE = {
    "APIRouter": "latentd.server.routing:APIRouter",
    "Box": "latentd.images.region:Box",
    "Embedding": "latentd.conditioning.embeddings:Embedding",
    "EncodedTexts": "latentd.pipeline.trainable:EncodedTexts",
    "FarChannel": "latentd.engine.far:FarChannel",
    "FarLink": "latentd.engine.far:FarLink",
    "FarMessage": "latentd.engine.far:FarMessage",
    "FarNews": "latentd.engine.far:FarNews",
    "FarReady": "latentd.engine.far:Ready",
    "FarRunner": "latentd.engine.far_runner:FarRunner",
    "FarUnable": "latentd.engine.far:Unable",
    "Img2ImgRequest": "latentd.server.schemas.generation:Img2ImgRequest",
    "JobAccepted": "latentd.server.schemas.jobs:JobAccepted",
    "Label": "latentd.images.annotations:Label",
    "LegendStyle": "latentd.images.annotations:LegendStyle",
    "LenientBool": "latentd.server.schemas.lenient:Bool",
    "LenientFloat": "latentd.server.schemas.lenient:Float",
    "LenientInt": "latentd.server.schemas.lenient:Int",
    "LenientModel": "latentd.server.schemas.lenient:LenientModel",
    "LenientSeed": "latentd.server.schemas.lenient:Seed",
    "LenientStr": "latentd.server.schemas.lenient:Str",
    "LinkLost": "latentd.engine.far:LinkLost",
    "OnnxModel": "latentd.models.loading.onnx:OnnxModel",
    "QueueExecutor": "latentd.engine.executor:Engine",
    "ScriptRuns": "latentd.pipeline.script_runs:ScriptRuns",
    "StateDict": "latentd.models.files.state_dict:StateDict",
    "TrainableLayer": "latentd.pipeline.trainable:TrainableLayer",
    "TrainableModel": "latentd.pipeline.trainable:TrainableModel",
    "Txt2ImgRequest": "latentd.server.schemas.generation:Txt2ImgRequest",
    "accept_job": "latentd.server.routes.jobs:accepted",
    "annotate_grid": "latentd.images.annotations:annotate_grid",
    "answer_generation": "latentd.server.routes.generation:answer_generation",
    "await_job": "latentd.server.routes.generation:await_job",
    "build_module": "latentd.models.loading.build:assemble",
    "check_cover": "latentd.pipeline.planning.limits:check_cover",
    "check_generation": "latentd.pipeline.beside:check_generation",
    "check_images": "latentd.pipeline.planning.limits:check_images",
    "check_length": "latentd.pipeline.planning.limits:check_length",
    "check_pixels": "latentd.pipeline.planning.limits:check_pixels",
    "check_size": "latentd.pipeline.planning.limits:check_size",
    "cut_out": "latentd.images.fill:cut_out",
    "cut_tiles": "latentd.images.tiles:cut_tiles",
    "draw_beside": "latentd.pipeline.beside:draw_beside",
    "draw_within": "latentd.pipeline.beside:draw_within",
    "encode_pictures": "latentd.models.vae:encode_pictures",
    "encode_prompt": "latentd.pipeline.passes.conditioning:encode_prompt",
    "expand_box": "latentd.images.region:expand_box",
    "find_noise": "latentd.pipeline.passes.inversion:find_noise",
    "flatten": "latentd.images.transparency:flatten",
    "grid_rows": "latentd.images.grid:grid_rows",
    "hide_embedding": "latentd.conditioning.pixel_data:with_embedding",
    "import_pipeline": "latentd.server.work:import_pipeline",
    "join_tiles": "latentd.images.tiles:join_tiles",
    "load_pickle": "latentd.models.files.unpickle:load_pickle",
    "make_grid": "latentd.images.grid:make_grid",
    "masked_box": "latentd.images.region:masked_box",
    "name_job": "latentd.server.middleware:name_job",
    "open_onnx": "latentd.models.loading.onnx:open_onnx",
    "open_picture": "latentd.images.codecs:open_image",
    "picture_bytes": "latentd.images.codecs:encode_image",
    "plan_tiles": "latentd.images.tiles:plan_tiles",
    "plan_within": "latentd.pipeline.beside:plan_within",
    "post_to": "latentd.server.fetch:post_to",
    "prepare_mask": "latentd.images.masks:prepare_mask",
    "prompt_matrix_legends": "latentd.images.annotations:prompt_matrix_legends",
    "queue_generation": "latentd.server.routes.generation:queue_generation",
    "read_embedding": "latentd.conditioning.embeddings:look_at",
    "require_memory": "latentd.models.free_memory:require_memory",
    "read_weights": "latentd.models.files.state_dict:open_state_dict",
    "reply_of": "latentd.server.openapi:reply_of",
    "resize_image": "latentd.images.resize:resize_image",
    "serve_far": "latentd.server.far_worker:serve_far",
    "save_intermediate": "latentd.pipeline.output.saving:save_intermediate",
    "trainable_model": "latentd.pipeline.trainable:trainable_model",
    "uncrop": "latentd.images.inpaint:uncrop",
    "unet_key": "latentd.models.loading.convert:unet_key",
    "upscale_tiled": "latentd.images.tiles:upscale_tiled",
    "weights_from_tensors": "latentd.models.files.state_dict:from_tensors",
}

__all__ = [
    "APIRouter",
    "AnyScript",
    "ArgInfo",
    "Attend",
    "AttentionHandler",
    "AttentionSite",
    "BlockHandler",
    "BlockSite",
    "Box",
    "Cache",
    "CacheReport",
    "Checkpoint",
    "Conflict",
    "Detection",
    "DetectorSpec",
    "DeviceLost",
    "DeviceTrouble",
    "Embedding",
    "EncodedTexts",
    "EntryHandler",
    "Evaluate",
    "Executor",
    "ExecutorEvents",
    "ExecutorJob",
    "ExtraNetworkSpec",
    "FaceRestorerSpec",
    "FarChannel",
    "FarLink",
    "FarMessage",
    "FarNews",
    "FarReady",
    "FarRunner",
    "FarUnable",
    "GeneratedImage",
    "Generation",
    "GenerationRequest",
    "GuidedStep",
    "HashCache",
    "HealthSpec",
    "HiresPlan",
    "Home",
    "Img2ImgRequest",
    "Img2imgInit",
    "Img2imgStart",
    "InterrogatorSpec",
    "Interrupted",
    "InvalidImage",
    "InvalidRequest",
    "JobAccepted",
    "JobControl",
    "JobEvent",
    "JobEvents",
    "JobObserver",
    "JsonValue",
    "Label",
    "LatentdError",
    "LegendStyle",
    "LenientBool",
    "LenientFloat",
    "LenientInt",
    "LenientModel",
    "LenientSeed",
    "LenientStr",
    "LinkLost",
    "MaskBlend",
    "Mode",
    "Model",
    "ModelFile",
    "ModelFormatSpec",
    "ModelLoadError",
    "Models",
    "NeededFile",
    "NoArgs",
    "NotConfigured",
    "NotFound",
    "NotStored",
    "Offered",
    "OnnxModel",
    "OptionSpec",
    "Options",
    "Paths",
    "Place",
    "Plan",
    "Planned",
    "PortableWork",
    "PostprocessorSpec",
    "Predict",
    "PreprocessorSpec",
    "ProgressState",
    "Queue",
    "QueueExecutor",
    "RawArgs",
    "Registered",
    "Residuals",
    "Result",
    "Runner",
    "SamplerSpec",
    "SchedulerSpec",
    "Script",
    "ScriptCall",
    "ScriptRuns",
    "Services",
    "Settings",
    "StateDict",
    "TooLarge",
    "TrainableLayer",
    "TrainableModel",
    "Txt2ImgRequest",
    "UNetCall",
    "UNetHook",
    "UpscaleContext",
    "UpscalerSpec",
    "Window",
    "WorkJob",
    "WorkerContext",
    "accept_job",
    "annotate_grid",
    "answer_generation",
    "await_job",
    "blamed",
    "build_module",
    "check_cover",
    "check_generation",
    "check_images",
    "check_length",
    "check_pixels",
    "check_regular",
    "check_size",
    "cut_out",
    "cut_tiles",
    "draw_beside",
    "draw_within",
    "encode_pictures",
    "encode_prompt",
    "expand_box",
    "find_models",
    "find_noise",
    "flatten",
    "grid_rows",
    "hide_embedding",
    "hypernetwork_activation",
    "hypernetwork_activations",
    "hookimpl",
    "import_pipeline",
    "install_hint",
    "is_regular",
    "job_of",
    "join_tiles",
    "load_pickle",
    "make_grid",
    "masked_box",
    "name_job",
    "near_matches",
    "open_onnx",
    "open_picture",
    "open_regular",
    "owner_of",
    "picture_bytes",
    "plan_tiles",
    "plan_within",
    "post_to",
    "prepare_mask",
    "prompt_matrix_legends",
    "queue_generation",
    "read_embedding",
    "read_header",
    "read_regular",
    "read_shapes",
    "read_weights",
    "reply_of",
    "require_memory",
    "resize_image",
    "save_intermediate",
    "serve_far",
    "trainable_model",
    "uncrop",
    "unet_key",
    "upscale_tiled",
    "weights_from_tensors",
    "write_atomically",
]


def __getattr__(name: str) -> Any:  # the imports for type checkers above say what each is
    # Importing FastAPI takes most of a second and torch several; plugins that use neither should not wait for them.
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = _LATE[name].partition(":")
    return getattr(import_module(module), attribute)
