"""Rows of the list endpoints."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Row(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class Sampler(_Row):
    name: str
    aliases: list[str]
    options: dict[str, str]


class Scheduler(_Row):
    name: str
    label: str
    aliases: list[str] | None
    default_rho: float | None
    need_inner_model: bool | None


class Upscaler(_Row):
    name: str
    model_name: str | None
    model_path: str | None
    model_url: str | None
    scale: float | None


class LatentUpscaleMode(_Row):
    name: str


class Checkpoint(_Row):
    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str
    config: str | None


class Vae(_Row):
    model_name: str
    filename: str


class NamedFile(_Row):
    name: str
    path: str | None


class FaceRestorer(_Row):
    name: str
    cmd_dir: str | None


class RealEsrganModel(_Row):
    name: str
    path: str | None
    scale: int | None


class PromptStyle(_Row):
    name: str
    prompt: str | None
    negative_prompt: str | None


class Embedding(_Row):
    step: int | None
    sd_checkpoint: str | None
    sd_checkpoint_name: str | None
    shape: int
    vectors: int


class Embeddings(_Row):
    loaded: dict[str, Embedding]
    skipped: dict[str, Embedding]


class Lora(_Row):
    name: str
    alias: str
    path: str
    metadata: dict[str, Any]


class ScriptNames(_Row):
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


class Extension(_Row):
    name: str
    remote: str | None
    branch: str | None
    commit_hash: str | None
    commit_date: str | None
    version: str
    enabled: bool


class Memory(_Row):
    ram: dict[str, Any]
    cuda: dict[str, Any]
