"""The values that plugins register; they can be imported without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from latentd.arguments import beyond, parse_positional
from latentd.types import GenerationRequest, JsonValue, Mode, RawArgs

A = TypeVar("A")
Affects = Literal["generation", "saving", "extras", "interrogation", "models", "api", "runtime", "training", "ui"]
FileKind = Literal["checkpoint", "vae", "lora", "controlnet", "upscaler", "embedding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A weight file that is part of a pip package, from ``register_checkpoints``.

    A file of the same name in the data folder takes precedence.

    :param name: the relative name under which it is listed (``latentd-tiny.safetensors``); for networks, embeddings and
        control models the name of the file is used.
    :param default: whether it is selected if the user has no checkpoint.
    """

    path: Path
    name: str
    kind: FileKind = "checkpoint"
    default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One key of the option store.

    :param default: the default value, whose type is that of the option.
    :param choices: the values that are allowed, or a function that returns them if they are known only at run time.
    :param affects: the heading under which the documentation lists it.
    :param infotext: the key under which an infotext has a value that is not the default, and sets it when it is read.
    :param api_writable: False if it can be read over HTTP, but set only in config.json or by a flag.
    """

    key: str
    default: JsonValue
    help: str
    affects: Affects = "generation"
    minimum: float | None = None
    maximum: float | None = None
    choices: Sequence[str] | Callable[[], Sequence[str]] | None = None
    nullable: bool = False
    infotext: str | None = None
    api_writable: bool = True
    section: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFormatSpec:
    """A further checkpoint format. ``recognise(path, keys)`` returns whether ``load(path, device)`` can load a file."""

    name: str
    recognise: Callable[[Path, Sequence[str]], bool]
    load: Callable[[Path, str], Any]  # the core's LoadedModel, which a plugin builds with its own means


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSpec:
    """A readiness check for ``/readyz``: ``check()`` returns None if all is well, else one sentence."""

    name: str
    check: Callable[[], str | None]


class NoArgs(BaseModel):
    """The arguments of a script without arguments."""

    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgInfo:
    """One row of ``/sdapi/v1/script-info``; fields that do not apply are None."""

    label: str
    value: JsonValue = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: Sequence[str] | None = None


class ScriptForm(Generic[A]):
    """The part of a script that is needed before planning: its name and its arguments, of type ``A``.

    Always-on scripts are planned in ascending ``order``; those of equal order as the request names them.
    """

    title: str = ""
    aliases: Sequence[str] = ()
    modes: Sequence[Mode] = ("txt2img", "img2img")
    alwayson: bool = False
    always: bool = False
    order: int = 0
    listed: bool = True
    Args: type[BaseModel] = NoArgs

    def arg_info(self, mode: Mode) -> Sequence[ArgInfo] | None:
        """Rows for ``/script-info``; None derives them from ``Args``."""
        return None

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> A | None:
        """Typed arguments, or None if the script has nothing to do; by default an object of class ``Args``.

        :raises pydantic.ValidationError: an argument is invalid; the reply is a 422 with its path.
        """
        parsed: Any = parse_positional(self.Args, args)  # for classes that do not override this method, A is Args
        arguments: A = parsed
        return arguments

    def ignored_args(self, args: RawArgs, request: GenerationRequest) -> Sequence[str]:
        """The parts of ``args``, as they were sent, that have no effect, in a few words each; they become warnings.

        By default these are positions and names that are not among the fields of ``Args``.
        """
        return beyond(self.Args, args)

    def from_infotext(
        self, entries: Mapping[str, JsonValue], args: JsonValue, mode: Mode
    ) -> Sequence[JsonValue] | Mapping[str, JsonValue] | str | None:
        """For always-on scripts: the ``args`` of ``alwayson_scripts`` in an infotext that this script has written.

        :param entries: the keys and values that the infotext contains.
        :param args: the arguments in the request itself, which take precedence; None if it has none.
        :return: a list or mapping of arguments; a sentence that says why they cannot be read; or None if the infotext
            has nothing about this script.
        """
        return None
