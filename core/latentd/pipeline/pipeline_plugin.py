"""What the pipeline itself brings, through the same hooks as any plugin. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from latentd.contributions import ArgInfo, ExtraNetworkSpec, Script
from latentd.hookspecs import hookimpl
from latentd.pipeline.main_postprocessing import STEP_SCRIPTS

_NETWORKS = "latentd.pipeline.extra_networks"


@hookimpl
def register_extra_networks() -> list[ExtraNetworkSpec]:
    """``<lora:...>`` with its old name ``<lyco:...>``, and ``<hypernet:...>``."""
    return [
        ExtraNetworkSpec(name="lora", activate=_later("activate_lora"), aliases=("lyco",)),
        ExtraNetworkSpec(name="hypernet", activate=_later("activate_hypernetworks")),
    ]


@hookimpl
def register_scripts() -> list[Script]:
    """A1111's own sections of the form, listed as it lists them; over the API the request's fields do their work.
    Beside them the steps of extras that an option lets act on generated pictures."""
    return [
        *STEP_SCRIPTS,
        FormSection("Extra options", ()),
        FormSection("Hypertile", ()),
        FormSection(
            "Refiner",
            (
                ArgInfo(label="Refiner", value=False),
                ArgInfo(label="Checkpoint", value="", choices=()),
                ArgInfo(label="Switch at", value=0.8, minimum=0.01, maximum=1.0, step=0.01),
            ),
        ),
        FormSection(
            "Seed",
            (
                ArgInfo(label="Seed", value=-1, step=1),
                ArgInfo(label="Extra", value=False),
                ArgInfo(label="Variation seed", value=-1, step=1),
                ArgInfo(label="Variation strength", value=0.0, minimum=0, maximum=1, step=0.01),
                ArgInfo(label="Resize seed from width", value=0, minimum=0, maximum=2048, step=8),
                ArgInfo(label="Resize seed from height", value=0, minimum=0, maximum=2048, step=8),
            ),
        ),
    ]


class FormSection(Script):
    """A section of A1111's form: accepted in ``alwayson_scripts`` and without effect, as there."""

    alwayson = True

    def __init__(self, title: str, rows: Sequence[ArgInfo]) -> None:
        self.title = title
        self._rows = rows

    def arg_info(self, mode: str) -> Sequence[ArgInfo]:
        return self._rows

    def parse_args(self, args: Any, request: Any) -> None:
        return None


def _later(name: str) -> Callable[[Any, Sequence[Any]], Callable[[], None] | None]:
    """The function ``name`` of the networks' module, imported when it is first called."""

    def call(generation: Any, tags: Sequence[Any]) -> Callable[[], None] | None:
        result: Callable[[], None] | None = getattr(import_module(_NETWORKS), name)(generation, tags)
        return result

    return call
