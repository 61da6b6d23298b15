"""The axes of the X/Y/Z plot in AUTOMATIC1111's order, with the types of their values and their changes of requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypedDict, TypeVar, Unpack

from latentd.api import InvalidRequest, Mode, Services, near_matches
from latentd_scripts.xyz import apply, choices
from latentd_scripts.xyz.values import Value

V = TypeVar("V", bound=Value)
Choices: TypeAlias = Callable[[Services], Sequence[str]]
Check: TypeAlias = Callable[[Sequence[V], Services], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis(Generic[V]):
    """One axis.

    :param kind: int, float, str, or tuple (every order of the entries).
    :param apply: called as ``apply(request, value, all values, services)``; returns the request of a cell.
    :param choices: returns the values of an axis that has a list of them.
    :param cost: the axis with the highest cost changes least often.
    :param plain: whether the legend shows the value without the label.
    :param check: raises an error for unknown values before anything is computed.
    """

    label: str
    kind: type[V]
    apply: apply.Apply[V]
    mode: Mode | None = None
    choices: Choices | None = None
    cost: float = 0.0
    plain: bool = False
    check: Check[V] | None = None

    def text(self, value: V) -> str:
        """The legend of ``value``."""
        if isinstance(value, tuple):
            return ", ".join(value)
        text = str(round(value, 8) if isinstance(value, float) else value)
        if self.cost >= apply.CHECKPOINT_COST:
            return text.replace("\\", "/").rsplit("/", 1)[-1]
        return text if self.plain else f"{self.label}: {text}"


AnyAxis: TypeAlias = Axis[Any]
"""An axis among others, each with values of its own type."""


class _More(TypedDict, Generic[V], total=False):
    """Fields of :class:`Axis` with a default."""

    mode: Mode | None
    choices: Choices | None
    cost: float
    plain: bool
    check: Check[V] | None


def axes_of(mode: Mode) -> list[AnyAxis]:
    """The axes that a tab offers."""
    return [axis for axis in _AXES if axis.mode in (None, mode)]


def _field(label: str, kind: type[V], name: str, **more: Unpack[_More[V]]) -> Axis[V]:
    return Axis(label=label, kind=kind, apply=apply.field(name), **more)


def _option(label: str, kind: type[V], key: str, **more: Unpack[_More[V]]) -> Axis[V]:
    return Axis(label=label, kind=kind, apply=apply.option(key), **more)


def _switch(label: str, key: str) -> Axis[str]:
    return Axis(label=label, kind=str, apply=apply.switch(key), choices=lambda services: ("False", "True"))


def _sampler(label: str, name: str, mode: Mode, *, plain: bool = False) -> Axis[str]:
    check = apply.check_samplers
    return _field(label, str, name, mode=mode, choices=choices.samplers, check=check, plain=plain)


NOTHING: Axis[str] = Axis(label="Nothing", kind=str, apply=lambda request, value, values, services: request)

_AXES: tuple[AnyAxis, ...] = (
    NOTHING,
    _field("Seed", int, "seed"),
    _field("Var. seed", int, "subseed"),
    _field("Var. strength", float, "subseed_strength"),
    _field("Steps", int, "steps"),
    _field("Hires steps", int, "hr_second_pass_steps", mode="txt2img"),
    _field("CFG Scale", float, "cfg_scale"),
    _field("Image CFG Scale", float, "image_cfg_scale", mode="img2img"),
    Axis(label="Prompt S/R", kind=str, apply=apply.replace_in_prompt, plain=True),
    Axis(label="Prompt order", kind=tuple, apply=apply.reorder_prompt, plain=True),
    _sampler("Sampler", "sampler_name", "txt2img", plain=True),
    _sampler("Hires sampler", "hr_sampler_name", "txt2img"),
    _sampler("Sampler", "sampler_name", "img2img", plain=True),
    Axis(
        label="Checkpoint name",
        kind=str,
        apply=apply.checkpoint,
        choices=choices.checkpoints,
        cost=apply.CHECKPOINT_COST,
        check=apply.check_checkpoints,
    ),
    _field("Negative Guidance minimum sigma", float, "s_min_uncond"),
    _field("Sigma Churn", float, "s_churn"),
    _field("Sigma min", float, "s_tmin"),
    _field("Sigma max", float, "s_tmax"),
    _field("Sigma noise", float, "s_noise"),
    _option("Schedule type", str, "k_sched_type", choices=choices.schedules),
    _option("Schedule min sigma", float, "sigma_min"),
    _option("Schedule max sigma", float, "sigma_max"),
    _option("Schedule rho", float, "rho"),
    _field("Eta", float, "eta"),
    _option("Clip skip", int, "CLIP_stop_at_last_layers"),
    _field("Denoising", float, "denoising_strength"),
    _field("Initial noise multiplier", float, "initial_noise_multiplier"),
    _option("Extra noise", float, "img2img_extra_noise"),
    _field("Hires upscaler", str, "hr_upscaler", mode="txt2img", choices=choices.hires_upscalers),
    _option("Cond. Image Mask Weight", float, "inpainting_mask_weight", mode="img2img"),
    Axis(label="VAE", kind=str, apply=apply.vae, choices=choices.vaes, cost=0.7),
    Axis(label="Styles", kind=str, apply=apply.styles, choices=choices.styles),
    Axis(label="UniPC Order", kind=int, apply=apply.unipc_order, cost=0.5),
    Axis(label="Face restore", kind=str, apply=apply.face_restore, plain=True),
    _option("Token merging ratio", float, "token_merging_ratio"),
    _option("Token merging ratio high-res", float, "token_merging_ratio_hr"),
    _switch("Always discard next-to-last sigma", "always_discard_next_to_last_sigma"),
    _switch("SGM noise multiplier", "sgm_noise_multiplier"),
    _field(
        "Refiner checkpoint",
        str,
        "refiner_checkpoint",
        choices=choices.checkpoints_or_none,
        cost=apply.CHECKPOINT_COST,
        check=apply.check_checkpoints,
    ),
    _field("Refiner switch at", float, "refiner_switch_at"),
    _option("RNG source", str, "randn_source", choices=lambda services: ("GPU", "CPU", "NV")),
    _option(
        "FP8 mode", str, "fp8_storage", choices=lambda services: ("Disable", "Enable for SDXL", "Enable"), cost=0.9
    ),
)


def find_axis(offered: Sequence[AnyAxis], wanted: int | str) -> AnyAxis:
    """The axis with this index of the list, or with this label.

    :raises InvalidRequest: there is none.
    """
    if isinstance(wanted, int):
        if 0 <= wanted < len(offered):
            return offered[wanted]
        raise InvalidRequest(f"there are {len(offered)} axes, no number {wanted}")
    for axis in offered:
        if axis.label.lower() == wanted.strip().lower():
            return axis
    labels = [axis.label for axis in offered]
    raise InvalidRequest(f"there is no axis {wanted!r}", hint=near_matches(wanted, labels))
