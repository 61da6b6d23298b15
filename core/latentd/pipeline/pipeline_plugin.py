"""The pipeline's own contributions, which use the same hooks as any plugin. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from latentd.arguments import surplus
from latentd.contributions import ArgInfo
from latentd.generations import ExtraNetworkSpec, Script
from latentd.hookspecs import hookimpl
from latentd.pipeline.extras.main_postprocessing import STEP_SCRIPTS
from latentd.pipeline.planning.network_tags import check_hypernetwork, check_lora

if TYPE_CHECKING:
    from latentd.generations import AnyScript, Generation
    from latentd.prompts.networks import NetworkTag
    from latentd.types import GenerationRequest, Mode, RawArgs

_NETWORKS = "latentd.pipeline.passes.extra_networks"


@hookimpl
def register_extra_networks() -> list[ExtraNetworkSpec]:
    """``<lora:...>`` with its old name ``<lyco:...>``, and ``<hypernet:...>``."""
    return [
        ExtraNetworkSpec(name="lora", activate=_later("activate_lora"), aliases=("lyco",), check=check_lora),
        ExtraNetworkSpec(name="hypernet", activate=_later("activate_hypernetworks"), check=check_hypernetwork),
    ]


@hookimpl
def register_scripts() -> list[AnyScript]:
    """The sections of AUTOMATIC1111's form, and the steps of extras that an option allows on generated pictures.

    Sections are listed as there; over the API, fields of the request have their effect.
    """
    return [
        *STEP_SCRIPTS,
        FormSection(
            "API payload", listed=False
        ),  # an extension that shows requests, and so is in those that are copied
        FormSection("Comments", listed=False),
        FormSection("Extra options"),
        FormSection("Hypertile"),
        FormSection("Refiner", _REFINER, switch=0),
        FormSection("Sampler", _SAMPLER, listed=False),
        FormSection("Seed", _SEED, switch=1),
    ]


@dataclass(frozen=True, slots=True)
class _Control:
    """A control of a section, and the field of the request that has its effect over the API."""

    row: ArgInfo
    field: str | None = None


_REFINER = (
    _Control(ArgInfo(label="Refiner", value=False)),
    _Control(ArgInfo(label="Checkpoint", value="", choices=()), "refiner_checkpoint"),
    _Control(ArgInfo(label="Switch at", value=0.8, minimum=0.01, maximum=1.0, step=0.01), "refiner_switch_at"),
)
_SAMPLER = (
    _Control(ArgInfo(label="Sampling steps", value=20, minimum=1, maximum=150, step=1), "steps"),
    _Control(ArgInfo(label="Sampling method", value="DPM++ 2M"), "sampler_name"),
    _Control(ArgInfo(label="Schedule type", value="Automatic"), "scheduler"),
)
_SEED = (
    _Control(ArgInfo(label="Seed", value=-1, step=1), "seed"),
    _Control(ArgInfo(label="Extra", value=False)),
    _Control(ArgInfo(label="Variation seed", value=-1, step=1), "subseed"),
    _Control(ArgInfo(label="Variation strength", value=0.0, minimum=0, maximum=1, step=0.01), "subseed_strength"),
    _Control(ArgInfo(label="Resize seed from width", value=0, minimum=0, maximum=2048, step=8), "seed_resize_from_w"),
    _Control(ArgInfo(label="Resize seed from height", value=0, minimum=0, maximum=2048, step=8), "seed_resize_from_h"),
)


class FormSection(Script[None]):
    """A section of AUTOMATIC1111's form: accepted in ``alwayson_scripts`` and without effect, as there.

    :param switch: index of the checkbox that switches the controls after it.
    :param listed: False for sections that have no row in 1.8.
    """

    alwayson = True

    def __init__(
        self, title: str, controls: Sequence[_Control] = (), *, switch: int | None = None, listed: bool = True
    ) -> None:
        self.title = title
        self.listed = listed
        self._controls = controls
        self._switch = switch

    def arg_info(self, mode: Mode) -> Sequence[ArgInfo]:
        """A row for each control of the section."""
        return [control.row for control in self._controls]

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> None:
        """None: the section has no effect over the API."""

    def ignored_args(self, args: RawArgs, request: GenerationRequest) -> Sequence[str]:
        """Values that are neither the form's defaults nor equal to those of the request's fields."""
        if not args or isinstance(args, str) or not isinstance(args, Sequence):
            return super().ignored_args(args, request)
        is_off = self._switch is not None and len(args) > self._switch and not args[self._switch]
        read = self._controls[: self._switch] if is_off else self._controls
        told = [
            f"{control.row.label!r} ({control.field} decides)"
            for control, value in zip(read, args, strict=False)
            if control.field is not None and value not in (control.row.value, _said(request, control.field), None)
        ]
        return told + surplus(args, len(self._controls))


def _said(request: GenerationRequest, field: str) -> object:
    return request.sampler_name or request.sampler_index if field == "sampler_name" else getattr(request, field)


def _later(name: str) -> Callable[[Generation, Sequence[NetworkTag]], Callable[[], None] | None]:
    """The function ``name`` of the networks' module, imported when it is first called."""

    def call(generation: Generation, tags: Sequence[NetworkTag]) -> Callable[[], None] | None:
        result: Callable[[], None] | None = getattr(import_module(_NETWORKS), name)(generation, tags)
        return result

    return call
