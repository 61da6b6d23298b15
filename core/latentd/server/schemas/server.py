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
