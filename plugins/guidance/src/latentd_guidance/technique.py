"""Base of the techniques: always-on scripts that their first argument enables, and which the infotext records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field

from latentd.api import Generation, GenerationRequest, JsonValue, RawArgs, Script, UNetCall, UNetHook


class Arguments(BaseModel):
    """Base of the techniques' arguments: ``enabled`` comes first, and every number is finite."""

    model_config = ConfigDict(allow_inf_nan=False)

    enabled: bool = Field(False, title="Enabled")


A = TypeVar("A", bound=Arguments)
FARTHEST = 1e6


def slider(default: float, title: str, low: float, high: float, step: float, **bounds: float) -> Any:
    """A number with the slider that ``/script-info`` shows.

    The slider's range is a recommendation, as in AUTOMATIC1111. Enforced are ``bounds`` (``ge``, ``le``...), and limits
    within which float32 does not overflow.
    """
    shown: dict[str, JsonValue] = {"minimum": low, "maximum": high, "step": step}
    return Field(
        default,
        title=title,
        json_schema_extra=shown,
        ge=bounds.get("ge", -FARTHEST),
        le=bounds.get("le", FARTHEST),
    )


class Technique(Script[A], ABC):
    """An always-on script that gives one UNet hook when it is enabled.

    ``prefix`` begins its keys in the infotext, which are those of Forge: ``freeu_enabled``, ``freeu_b1``...
    ``unwritten`` names fields that the infotext omits while they have their defaults.
    """

    alwayson = True
    prefix: ClassVar[str]
    unwritten: ClassVar[frozenset[str]] = frozenset()
    Args: type[Arguments] = Arguments

    @abstractmethod
    def hook(self, generation: Generation, args: A) -> UNetHook:
        """The hook that acts in each evaluation of the UNet in this job."""

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> A | None:
        """The arguments, or None when the technique is switched off."""
        parsed = super().parse_args(args, request)
        return parsed if parsed is not None and parsed.enabled else None

    def before_process(self, generation: Generation, args: A) -> None:
        """Note the settings in the infotext."""
        for name, value in args:
            if name not in self.unwritten or value != self.Args.model_fields[name].default:
                generation.infotext[self.prefix + name] = value

    def unet_hooks(self, generation: Generation, args: A) -> Sequence[UNetHook]:
        """The technique's hook."""
        return (self.hook(generation, args),)

    def from_infotext(
        self, entries: Mapping[str, JsonValue], args: JsonValue, mode: Literal["txt2img", "img2img"]
    ) -> dict[str, JsonValue] | None:
        """The arguments that :meth:`before_process` noted, for a request that does not mention this technique."""
        if args is not None or entries.get(self.prefix + "enabled") != "True":
            return None
        return dict(self._read(entries))

    def _read(self, entries: Mapping[str, JsonValue]) -> Iterator[tuple[str, JsonValue]]:
        for name, field in self.Args.model_fields.items():
            text = entries.get(self.prefix + name)
            if not isinstance(text, str):
                continue
            value: JsonValue = text
            if field.annotation is bool:
                value = text == "True"
            elif not get_args(field.annotation):
                with suppress(ValueError):
                    value = float(text)
            yield name, value


def share_of_steps(call: UNetCall) -> float:
    """How far the pass is, from 0 at its first step to 1 at its last."""
    return call.step / max(call.steps - 1, 1)
