"""Documents about the server itself. These models only describe replies; no reply is validated by them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Whether generations can be served."""

    status: Literal["ok", "unready"]
    problems: list[str] = Field(description="Why not; one sentence each.")
    failed_plugins: list[str] = Field(description="Names of plugins that failed.")
    failed_devices: list[str] = Field(description="Devices that take no more jobs, each with the reason.")


class PluginRow(BaseModel):
    """One plugin and what became of it."""

    name: str
    distribution: str | None = Field(description="The installed package that it comes from.")
    version: str | None
    builtin: bool = Field(description="A part of the core.")
    state: Literal["loaded", "failed", "withdrawn", "disabled"]
    error: str | None = Field(description="Why it is out, in one sentence.")
    traceback: str | None
    contributes: dict[str, list[str]] = Field(description="Names of what it brings, by kind.")


class PluginList(BaseModel):
    """Every plugin."""

    version: str = Field(description="Version of latentd.")
    plugins: list[PluginRow]


class PartPrecision(BaseModel):
    """How a part of a loaded model computes."""

    dtype: str = Field(description="Of its weights, spelled as in torch.")
    channels_last: bool = Field(description="Whether the weights of its convolutions have this memory layout.")


class PartTiming(PartPrecision):
    """What was measured for one part in one dtype and layout."""

    part: str = Field(description="unet, text or vae.")
    seconds: float = Field(description="Of the part's characteristic operations.")


class ModelPrecision(BaseModel):
    """The precision of a loaded model."""

    checkpoint: str
    device: str
    parts: dict[str, PartPrecision]
    measured: list[PartTiming] | None = Field(description="What the choice is based on; null where flags decided.")


class PrecisionReport(BaseModel):
    """The precision of every loaded model."""

    threads: int | None = Field(description="Threads of one operation on the CPU; null before torch is imported.")
    models: list[ModelPrecision]
