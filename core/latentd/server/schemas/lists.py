"""Rows of the list endpoints."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Row(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class SamplerItem(_Row):
    name: str
    aliases: list[str]
    options: dict[str, str]


class SchedulerItem(_Row):
    name: str
    label: str
    aliases: list[str] | None
    default_rho: float | None
    need_inner_model: bool | None


class UpscalerItem(_Row):
    name: str
    model_name: str | None
    model_path: str | None
    model_url: str | None
    scale: float | None


class LatentUpscalerModeItem(_Row):
    name: str


class SDModelItem(_Row):
    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str
    config: str | None


class SDVaeItem(_Row):
    model_name: str
    filename: str


class HypernetworkItem(_Row):
    name: str
    path: str | None


class FaceRestorerItem(_Row):
    name: str
    cmd_dir: str | None


class RealesrganItem(_Row):
    name: str
    path: str | None
    scale: int | None


class PromptStyleItem(_Row):
    name: str
    prompt: str | None
    negative_prompt: str | None


class EmbeddingItem(_Row):
    step: int | None
    sd_checkpoint: str | None
    sd_checkpoint_name: str | None
    shape: int
    vectors: int


class EmbeddingsResponse(_Row):
    loaded: dict[str, EmbeddingItem]
    skipped: dict[str, EmbeddingItem]


class LoraItem(_Row):
    name: str
    alias: str
    path: str
    metadata: dict[str, Any]


class ScriptsList(_Row):
    txt2img: list[str]
    img2img: list[str]


class ScriptArg(_Row):
    label: str | None
    value: Any | None
    minimum: Any | None
    maximum: Any | None
    step: Any | None
    choices: list[str] | None


class ScriptInfo(_Row):
    name: str | None
    is_alwayson: bool
    is_img2img: bool
    args: list[ScriptArg]


class ExtensionItem(_Row):
    name: str
    remote: str | None
    branch: str | None
    commit_hash: str | None
    commit_date: str | None
    version: str
    enabled: bool


class MemoryResponse(_Row):
    ram: dict[str, Any]
    cuda: dict[str, Any]
