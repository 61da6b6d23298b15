"""Rows of the list endpoints."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from latentd.types import JsonValue


class _Row(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class SamplerItem(_Row):
    """A sampler, with its further names and AUTOMATIC1111's settings for it."""

    name: str
    aliases: list[str]
    options: dict[str, str]


class SchedulerItem(_Row):
    """A scheduler; ``need_inner_model`` is true when its sigmas depend on the model."""

    name: str
    label: str
    aliases: list[str] | None
    default_rho: float | None
    need_inner_model: bool | None


class UpscalerItem(_Row):
    """An upscaler and the file it is read from; ``scale`` is its own factor."""

    name: str
    model_name: str | None
    model_path: str | None
    model_url: str | None
    scale: float | None


class LatentUpscalerModeItem(_Row):
    """A way of hires fix to enlarge the latent."""

    name: str


class SDModelItem(_Row):
    """A checkpoint file; ``hash`` is the first 10 digits of ``sha256``."""

    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str
    config: str | None


class SDVaeItem(_Row):
    """A VAE file."""

    model_name: str
    filename: str


class HypernetworkItem(_Row):
    """A hypernetwork file."""

    name: str
    path: str | None


class FaceRestorerItem(_Row):
    """A face restorer and the folder of its files."""

    name: str
    cmd_dir: str | None


class RealesrganItem(_Row):
    """A Real-ESRGAN model."""

    name: str
    path: str | None
    scale: int | None


class PromptStyleItem(_Row):
    """A prompt style."""

    name: str
    prompt: str | None
    negative_prompt: str | None


class EmbeddingItem(_Row):
    """An embedding: its size, and the checkpoint and step of its training where the file names them."""

    step: int | None
    sd_checkpoint: str | None
    sd_checkpoint_name: str | None
    shape: int
    vectors: int


class EmbeddingsResponse(_Row):
    """Embeddings by name: those that fit the loaded checkpoint, and the others."""

    loaded: dict[str, EmbeddingItem]
    skipped: dict[str, EmbeddingItem]


class LoraItem(_Row):
    """A LoRA file; ``metadata`` is what its header says."""

    name: str
    alias: str
    path: str
    metadata: dict[str, JsonValue]


class ExtraNetworkMetadata(_Row):
    """What a network's or checkpoint's header says, as a JSON text; without the key where there is nothing."""

    metadata: str | None = None


class ScriptsList(_Row):
    """Titles of the scripts, in lower case, by the kind of generation."""

    txt2img: list[str]
    img2img: list[str]


class ScriptArg(_Row):
    """One argument of a script, as a user interface would show it."""

    label: str | None
    value: JsonValue | None
    minimum: JsonValue | None
    maximum: JsonValue | None
    step: JsonValue | None
    choices: list[str] | None


class ScriptInfo(_Row):
    """A script for one kind of generation, with its arguments in order."""

    name: str | None
    is_alwayson: bool
    is_img2img: bool
    args: list[ScriptArg]


class ExtensionItem(_Row):
    """An installed plugin."""

    name: str
    remote: str | None
    branch: str | None
    commit_hash: str | None
    commit_date: str | None
    version: str
    enabled: bool


class MemoryResponse(_Row):
    """Memory in use in bytes, of the process and of the GPU."""

    ram: dict[str, JsonValue]
    cuda: dict[str, JsonValue]
