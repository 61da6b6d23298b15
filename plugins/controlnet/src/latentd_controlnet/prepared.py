"""Units after planning: checked, with everything that can be known before the job runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from latentd.api import NotFound, Plan, PreprocessorSpec, Services, near_matches
from latentd_controlnet.base_check import check_base
from latentd_controlnet.enums import ControlMode, HiresOption
from latentd_controlnet.infotext import write_unit
from latentd_controlnet.model_files import ControlFile, find_model, is_none
from latentd_controlnet.parameters import Parameters, resolve
from latentd_controlnet.preprocessors.pixels import Pixels
from latentd_controlnet.unit import Unit
from latentd_controlnet.unit_images import Decode, region_mask, unit_pictures

CLIP_MODULES = ("clip", "ip-adapter", "revision")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedUnit:
    """A unit that has been checked.

    :param module: the preprocessor that runs.
    :param file: the control model; None for modules that need none.
    :param index: number among the enabled units of the request, from 0.
    :param pictures: the unit's pictures; empty if img2img's own is used.
    :param on_prompt_alone: whether rows without the prompt are left uncontrolled.
    """

    index: int
    unit: Unit
    module: PreprocessorSpec
    parameters: Parameters
    file: ControlFile | None
    pictures: tuple[Pixels, ...]
    region: Pixels | None = None
    on_prompt_alone: bool = False

    @property
    def is_inpaint(self) -> bool:
        """Whether the module uses the mask as the map's fourth channel."""
        return self.module.name.startswith("inpaint")

    @property
    def takes_mask(self) -> bool:
        """Whether the module gets the picture's mask as a fourth channel."""
        return self.is_inpaint or any(part in self.module.name for part in CLIP_MODULES)

    @property
    def is_soft(self) -> bool:
        """Whether soft weights are used: less influence for layers far from the middle."""
        return self.unit.control_mode != ControlMode.BALANCED

    def acts(self, step: int, steps: int, pass_name: str) -> bool:
        """Whether this unit takes part in an evaluation: within its guidance window and its ``hr_option``."""
        other = {"base": HiresOption.HIGH, "hires": HiresOption.LOW}[pass_name]
        share = step / max(steps, 1)
        return self.unit.hires != other and self.unit.guidance_start <= share <= self.unit.guidance_end


@dataclass(frozen=True, slots=True)
class ControlNetArgs:
    """The units of one request; ``prepared`` is what planning makes of them."""

    units: tuple[Unit, ...]
    prepared: tuple[PreparedUnit, ...] = field(default=())


def prepare_units(units: tuple[Unit, ...], plan: Plan, services: Services) -> tuple[PreparedUnit, ...]:
    """All units, checked against what is installed and what the request contains.

    :raises InvalidRequest: a unit cannot act: no picture, unknown module or model, a model for another base.
    """
    # As in March 2023: guess mode of one unit, or the option, leaves rows without the prompt uncontrolled by any unit.
    guessing = any(unit.style == "seed" and unit.control_mode == ControlMode.CONTROL for unit in units)
    alone = guessing or bool(plan.options["control_net_cfg_based_guidance"])
    decode = services.image_decoder()
    prepared = [part for unit in units for part in _one_each(_prepare(unit, plan, services, decode, alone=alone))]
    return tuple(replace(unit, index=index) for index, unit in enumerate(prepared))


def _one_each(prepared: PreparedUnit) -> list[PreparedUnit]:
    """A unit with several pictures as units of one picture with a share of the weight; adapters use them together."""
    count = len(prepared.pictures)
    if count < 2 or any(part in prepared.module.name for part in CLIP_MODULES):
        return [prepared]
    share = replace(prepared.unit, weight=prepared.unit.weight / count)
    return [replace(prepared, unit=share, pictures=(picture,)) for picture in prepared.pictures]


def _prepare(unit: Unit, plan: Plan, services: Services, decode: Decode, *, alone: bool) -> PreparedUnit:
    module = find_module(unit, services, plan)
    file = _file(unit, module, services)
    pictures = unit_pictures(unit, decode)
    if not pictures and not plan.is_img2img and unit.embedding is None:
        raise unit.error(
            "controlnet is enabled but no input image is given", hint="send image, or enabled: false to leave it out"
        )
    if unit.embedding is not None and module.model_free:
        raise unit.error(f"ipadapter_input does nothing with module {module.name}")
    _check_mask(unit, module, pictures, plan)
    if file is not None:
        check_base(unit, file, plan, services)
    return PreparedUnit(
        index=0,
        unit=unit if plan.hires is not None else replace(unit, hires=HiresOption.BOTH),
        module=module,
        parameters=resolve(module, unit.processor_res, unit.threshold_a, unit.threshold_b),
        file=file,
        pictures=pictures,
        region=region_mask(unit, decode),
        on_prompt_alone=alone or unit.control_mode == ControlMode.CONTROL,
    )


def find_module(unit: Unit, services: Services, plan: Plan) -> PreprocessorSpec:
    """The preprocessor that a unit names by its name, label or old name.

    :raises InvalidRequest: there is none.
    """
    registry = services.registry.preprocessors
    spec: PreprocessorSpec | None = registry.find(unit.module)
    if spec is None:
        raise unit.error(
            f"module({unit.module}) not found in supported modules.", hint=near_matches(unit.module, list(registry))
        )
    if spec.name == "inpaint_only" and plan.is_img2img and plan.request.mask is not None:
        # img2img's own mask has the same effect.
        fallback: PreprocessorSpec = registry["inpaint"]
        return fallback
    return spec


def _file(unit: Unit, module: PreprocessorSpec, services: Services) -> ControlFile | None:
    if module.model_free:
        return None
    if is_none(unit.model):
        raise unit.error(f"module {module.name} needs a model and none is named", hint="see /controlnet/model_list")
    try:
        return find_model(services, unit.model)
    except NotFound as error:
        raise unit.error(error.detail, hint=error.hint) from error


def _check_mask(unit: Unit, module: PreprocessorSpec, pictures: tuple[Pixels, ...], plan: Plan) -> None:
    """Refuse an inpainting unit in txt2img without a mask, which would keep the whole picture.

    :raises InvalidRequest: the mask is missing or empty.
    """
    if not module.needs_mask or plan.is_img2img or not pictures:
        return
    if not any(picture[:, :, 3].any() for picture in pictures):
        raise unit.error(f"module {module.name} needs a mask, and none of it is set", hint="white is painted anew")


def describe(prepared: PreparedUnit) -> str | None:
    """The infotext of a unit; None if a value has a comma or colon and could not be read back."""
    unit, values = prepared.unit, prepared.parameters
    return write_unit({
        "Module": unit.module,
        "Model": unit.model if prepared.file or not prepared.module.model_free else "None",
        "Weight": unit.weight,
        "Resize Mode": unit.resize_mode.label,
        "Processor Res": values.resolution,
        "Threshold A": values.threshold_a,
        "Threshold B": values.threshold_b,
        "Guidance Start": unit.guidance_start,
        "Guidance End": unit.guidance_end,
        "Pixel Perfect": unit.pixel_perfect,
        "Control Mode": unit.control_mode.label,
    })  # fmt: skip
