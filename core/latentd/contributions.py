"""What plugins hand to the registries: small values, importable without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from latentd.arguments import beyond, parse_positional
from latentd.types import GenerationRequest, JsonValue, Mode, RawArgs

A = TypeVar("A")
FileKind = Literal["checkpoint", "vae", "lora", "controlnet", "upscaler", "embedding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A weight file that a pip package carries, from ``register_checkpoints``.

    ``name`` is the relative name under which it is listed (``latentd-tiny.safetensors``); networks, embeddings and
    control models go by the name of their file. A file of the same name in the data folder wins. ``default``: serve it
    when the user has no checkpoint of their own.
    """

    path: Path
    name: str
    kind: FileKind = "checkpoint"
    default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One key of the option store.

    ``default`` gives the type, too; ``choices`` may be a function for lists known only at run time. ``affects`` sorts
    the documentation. ``infotext`` is the key under which a generation writes a value that is not the default, and by
    which a pasted infotext sets it again. ``api_writable`` False: readable over HTTP, settable only in config.json or
    by flag.
    """

    key: str
    default: JsonValue
    help: str
    affects: Literal[
        "generation", "saving", "extras", "interrogation", "models", "api", "runtime", "training", "ui"
    ] = "generation"
    minimum: float | None = None
    maximum: float | None = None
    choices: Sequence[str] | Callable[[], Sequence[str]] | None = None
    nullable: bool = False
    infotext: str | None = None
    api_writable: bool = True
    section: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFormatSpec:
    """A checkpoint format beyond the core's. ``recognise(path, keys)`` says whether ``load(path, device)`` applies."""

    name: str
    recognise: Callable[[Path, Sequence[str]], bool]
    load: Callable[[Path, str], Any]  # the core's LoadedModel, which a plugin builds with its own means


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSpec:
    """A readiness check for ``/readyz``: ``check()`` returns None when well, else one sentence."""

    name: str
    check: Callable[[], str | None]


class NoArgs(BaseModel):
    """Arguments of a script that takes none."""

    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgInfo:
    """One row of ``/sdapi/v1/script-info``; facets that do not apply are None."""

    label: str
    value: JsonValue = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: Sequence[str] | None = None


class ScriptForm(Generic[A]):
    """What a script shows of itself before anything is planned: its name and its arguments, of type ``A``."""

    title: str = ""
    aliases: Sequence[str] = ()
    modes: Sequence[Mode] = ("txt2img", "img2img")
    alwayson: bool = False
    always: bool = False
    listed: bool = True
    Args: type[BaseModel] = NoArgs

    def arg_info(self, mode: Mode) -> Sequence[ArgInfo] | None:
        """Rows for ``/script-info``; None derives them from ``Args``."""
        return None

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> A | None:
        """Typed arguments, or None when the script has nothing to do; by default an object of class ``Args``.

        :raises pydantic.ValidationError: rendered as a 422 with the path of the bad argument.
        """
        parsed: Any = parse_positional(self.Args, args)  # who leaves this method as it is has Args for A
        arguments: A = parsed
        return arguments

    def ignored_args(self, args: RawArgs, request: GenerationRequest) -> Sequence[str]:
        """What of ``args``, as they were sent, does not act, in a few words each; the core tells the caller.

        By default: places and names beyond the fields of ``Args``.
        """
        return beyond(self.Args, args)

    def from_infotext(
        self, entries: Mapping[str, JsonValue], args: JsonValue, mode: Mode
    ) -> Sequence[JsonValue] | Mapping[str, JsonValue] | str | None:
        """Always-on scripts: the ``args`` of ``alwayson_scripts`` that an infotext tells, as this script wrote them.

        :param entries: the infotext's keys and values, as far as its text states them.
        :param args: what the request itself says of this script, None where it says nothing; that wins.
        :return: a list or mapping of arguments; a sentence that says why they cannot be had; None: the infotext tells
            nothing of this script.
        """
        return None
