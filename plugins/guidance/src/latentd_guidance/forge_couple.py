"""Regional prompts by attention couple, under the title and arguments of Forge Couple.

Each line of the prompt is a text of its own. In every cross-attention the picture attends to each line, and the results
are added by the lines' shares in each place; the negative prompt stays one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from latentd.api import (
    Attend,
    AttentionHandler,
    AttentionSite,
    Generation,
    GenerationRequest,
    InvalidRequest,
    JsonValue,
    Mode,
    Plan,
    Planned,
    RawArgs,
    Script,
    Services,
    UNetCall,
    UNetHook,
)
from latentd_guidance import couple_regions as regions
from latentd_guidance.couple_regions import Planes
from latentd_guidance.multidiffusion import MultiDiffusion
from latentd_guidance.self_attention import grid_of
from latentd_guidance.technique import FARTHEST

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

STATE = "forge couple"
_COMPOSED = re.compile(r"\bAND\b")
_WITHOUT_DEFINITIONS = 16
"""Arguments of versions up to 4.0.1, which had no ``def_in_prompt``."""


class CoupleArgs(BaseModel):
    """Forge Couple's arguments in its order; null stands for a default."""

    model_config = ConfigDict(allow_inf_nan=False)

    enable: bool = Field(False, title="Enable")
    disable_hr: bool = Field(True, title="Compatibility")
    mode: Literal["Basic", "Advanced", "Mask"] = Field("Basic", title="Region Assignment")
    separator: Annotated[str, StringConstraints(max_length=100)] = Field("", title="Couple Separator")
    direction: Literal["Horizontal", "Vertical"] = Field("Horizontal", title="Tile Direction")
    background: Literal["None", "First Line", "Last Line"] = Field("None", title="Global Effect")
    background_weight: float = Field(0.5, title="Global Effect Weight", ge=0, le=FARTHEST)
    mapping: list[JsonValue] | None = Field(None, title="Mapping")
    common_parser: Literal["off", "{ }", "< >"] = Field("{ }", title="Syntax")
    common_debug: bool = Field(False, title="Debug")
    def_in_prompt: bool = Field(True, title="Include Definitions in Prompt")
    use_tile: bool = Field(False, title="Enable Tile Mode")
    tile_h: JsonValue = Field(None, title="Horizontal Tile Count")
    tile_v: JsonValue = Field(None, title="Vertical Tile Count")
    tile_threshold: JsonValue = Field(None, title="Inclusion Threshold")
    tile_replace: JsonValue = Field(None, title="Subject Replacement")
    tile_debug: JsonValue = Field(None, title="Debug Tiles")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: JsonValue) -> JsonValue:
        return {k: v for k, v in values.items() if v is not None} if isinstance(values, Mapping) else values


@dataclass(frozen=True, slots=True)
class Couple:
    """The arguments, and in mode Mask the planes that the plan has read from their pictures."""

    args: CoupleArgs
    masks: Planes | None = None

    def lines(self, prompt: str) -> list[str]:
        """The texts of ``prompt``, in the order of their regions."""
        args = self.args
        return regions.split_prompt(prompt, args.separator, args.common_parser, keep_definitions=args.def_in_prompt)

    def shares(self, count: int, width: int, height: int) -> Planes:
        """The share of each of ``count`` lines in each cell of a picture of ``width`` x ``height`` pixels.

        :raises InvalidRequest: so many lines do not fit the regions, or these leave cells to no one.
        """
        args = self.args
        if args.mode == "Advanced":
            areas = regions.read_areas(args.mapping)
            _require(count == len(areas), f"{count} lines of the prompt for {len(areas)} regions")
            return regions.shares(regions.rectangles(areas, width, height))
        behind = int(args.background != "None")
        if args.mode == "Mask":
            assert self.masks is not None, "the plan reads them"
            expected = len(self.masks) + behind
            _require(count == expected, f"{count} lines of the prompt for {expected} regions")
            planes = self.masks
        else:
            _require(count >= 2 + behind, f"the prompt has {count} lines, and needs {2 + behind}")
            _require(count <= regions.MOST_REGIONS, f"more than {regions.MOST_REGIONS} regions")
            planes = regions.tiles(count - behind, width, height, horizontal=args.direction == "Horizontal")
        return regions.shares(regions.with_background(planes, args.background, args.background_weight))


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidRequest(f"Forge Couple: {otherwise}", hint="each line of the prompt is the text of one region")


class ForgeCouple(Script[Couple]):
    """A prompt for each part of the picture."""

    title = "Forge Couple"
    alwayson = True
    Args = CoupleArgs

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> Couple | None:
        """The arguments, or None when it is switched off."""
        parsed: Any = super().parse_args(_present_layout(args), request)
        return Couple(parsed) if parsed.enable else None

    def ignored_args(self, args: RawArgs, request: GenerationRequest) -> Sequence[str]:
        """As for every script, of the layout that :func:`_present_layout` gives."""
        return super().ignored_args(_present_layout(args), request)

    def plan(self, plan: Plan, args: Couple, services: Services) -> Planned[Couple]:
        """Read masks, and find out whether every picture's prompt has a line for each region."""
        if args.args.use_tile:
            raise InvalidRequest("Forge Couple: tile mode is not known", hint="send use_tile false")
        if any(isinstance(call.script, MultiDiffusion) for call in plan.alwayson):
            raise InvalidRequest(
                "Forge Couple: regions of the picture are not known within the tiles of MultiDiffusion",
                hint="use one of both",
            )
        couple = Couple(args.args, _read_masks(args.args, plan, services))
        prompts = {*plan.prompts}
        if plan.hires is not None and not args.args.disable_hr:
            prompts |= {*plan.hires.prompts}
        for count in {len(couple.lines(prompt)) for prompt in prompts}:
            couple.shares(count, plan.width, plan.height)
        if any(_COMPOSED.search(prompt) for prompt in prompts):
            plan = plan.with_changes(
                warnings=(*plan.warnings, "Forge Couple: AND does not compose prompts within regions")
            )
        return Planned(plan=plan, args=couple)

    def before_process(self, generation: Generation, args: Couple) -> None:
        """Note the settings in the infotext, under the extension's keys."""
        sent, infotext = args.args, generation.infotext
        infotext["forge_couple"] = True
        infotext["forge_couple_compatibility"] = sent.disable_hr
        infotext["forge_couple_mode"] = sent.mode
        infotext["forge_couple_separator"] = sent.separator.replace("\n", "\\n") or "\\n"
        if sent.mode == "Basic":
            infotext["forge_couple_direction"] = sent.direction
        if sent.mode == "Advanced":
            infotext["forge_couple_mapping"] = _as_json(regions.read_areas(sent.mapping))
        else:
            infotext["forge_couple_background"] = sent.background
            infotext["forge_couple_background_weight"] = sent.background_weight
        infotext["forge_couple_common_parser"] = sent.common_parser
        infotext["forge_couple_def_in_prompt"] = sent.def_in_prompt

    def from_infotext(
        self, entries: Mapping[str, JsonValue], args: JsonValue, mode: Mode
    ) -> Mapping[str, JsonValue] | str | None:
        """The arguments that :meth:`before_process` noted, for a request that does not mention the script."""
        if args is not None or entries.get("forge_couple") != "True":
            return None
        if entries.get("forge_couple_mode") == "Mask":
            return "Forge Couple: masks are not in infotexts"
        return _from_entries(entries)

    def modify_conditioning(self, generation: Generation, args: Couple) -> None:
        """Encode the lines of the batch's prompts with the model in use."""
        generation.state[STATE] = terms_of(generation, args)

    def unet_hooks(self, generation: Generation, args: Couple) -> Sequence[UNetHook]:
        """The hook that couples the cross-attentions."""
        return (CoupleHook(args.args),)


def _present_layout(args: RawArgs) -> RawArgs:
    """A list of arguments as the present version orders it; version 1 had no ``disable_hr``."""
    if not isinstance(args, list):
        return args
    if len(args) > 1 and isinstance(args[1], str):
        return [args[0], False, *args[1:]]
    return [*args[:10], True, *args[10:]] if len(args) == _WITHOUT_DEFINITIONS else args


def _read_masks(args: CoupleArgs, plan: Plan, services: Services) -> Planes | None:
    if args.mode != "Mask":
        return None
    decode = services.image_decoder()
    masks = [(decode(text), weight) for text, weight in regions.read_masks(args.mapping)]
    return regions.drawn(masks, plan.width, plan.height)


def _as_json(areas: Sequence[regions.Area]) -> str:
    import json

    return json.dumps([[area.left, area.right, area.top, area.bottom, area.weight] for area in areas])


def _from_entries(entries: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    import json

    read: dict[str, JsonValue] = {"enable": True, "disable_hr": entries.get("forge_couple_compatibility") != "False"}
    names = ("mode", "separator", "direction", "background", "background_weight", "common_parser", "def_in_prompt")
    for name in names:
        if (value := entries.get(f"forge_couple_{name}")) is not None:
            read[name] = value
    mapping = entries.get("forge_couple_mapping")
    if isinstance(mapping, str):
        try:
            read["mapping"] = json.loads(mapping)
        except (ValueError, RecursionError):
            read["mapping"] = mapping
    return read


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """One text of a batch.

    :ivar context: gives its context [n,width] for a call of the model.
    :ivar shares: [pictures,h,w], its share in each cell of each picture of the batch; float32.
    """

    context: Callable[[int], Tensor]
    shares: Planes


def terms_of(generation: Generation, couple: Couple) -> list[Term]:
    """The texts of the batch's pictures; a text that several have is one term."""
    from latentd.api import encode_prompt

    plan = generation.plan
    if generation.pass_name == "hires" and couple.args.disable_hr:
        return []
    prompts = plan.hires.prompts if generation.pass_name == "hires" and plan.hires is not None else plan.prompts
    start = generation.batch * plan.batch_size
    batch = prompts[start : start + plan.batch_size]
    terms: dict[tuple[str, int], Term] = {}
    for picture, prompt in enumerate(batch):
        lines = couple.lines(prompt)
        if couple.args.common_debug:
            log.info("Forge Couple: the lines of the prompt are %s", lines)
        shares = couple.shares(len(lines), plan.width, plan.height)
        for number, (line, share) in enumerate(zip(lines, shares, strict=True)):
            term = terms.get((line, number))
            if term is None:
                planes = np.zeros((len(batch), *share.shape), dtype=np.float32)
                term = terms[line, number] = Term(encode_prompt(generation, line), planes)
            term.shares[picture] = share
    return list(terms.values())


class CoupleHook(UNetHook):
    """In every cross-attention: the sum of what each text gives, by its share in each place."""

    def __init__(self, args: CoupleArgs) -> None:
        self.args = args
        self.state: Mapping[str, Any] = {}
        self.active = True
        self.terms: list[tuple[Tensor, Term]] = []
        self.grids: dict[tuple[int, int, int], Tensor] = {}

    def open(self, generation: Generation) -> None:
        """Look where the batch's texts are, and whether they count in this pass."""
        self.state = generation.state
        self.active = not (self.args.disable_hr and generation.pass_name == "hires")

    def before(self, call: UNetCall) -> None:
        """The contexts of this evaluation; prompt editing may change them at each step."""
        found: list[Term] = self.state.get(STATE, []) if self.active else []
        if [term for _, term in self.terms] != found:
            self.grids.clear()
        self.terms = [(term.context(call.call_index).to(call.context), term) for term in found]

    def attention(self, site: AttentionSite) -> AttentionHandler | None:
        """A handler for each cross-attention."""
        return self._attend if self.active and site.kind == "cross" else None

    def _attend(self, call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Attend) -> Tensor:
        plain = attend(hidden, context)
        chosen = call.is_cond.to(plain).view(-1, 1, 1)
        total = plain * (1 - chosen) if self.terms else plain
        for number, (text, term) in enumerate(self.terms):
            share = self._share(number, term, hidden.shape[1], call)[call.image_index].unsqueeze(-1)
            total = total + attend(hidden, text.expand(len(hidden), -1, -1)) * (share.to(plain) * chosen)
        return total

    def _share(self, number: int, term: Term, cells: int, call: UNetCall) -> Tensor:
        """The term's shares [pictures,cells] on the grid of an attention."""
        import torch
        import torch.nn.functional as F

        height, width = call.sample.shape[-2:]
        key = (number, cells, width)
        if key not in self.grids:
            planes = torch.from_numpy(term.shares)[None].to(call.sample.device)
            resized = F.interpolate(planes, size=attention_grid(cells, height, width), mode="nearest")[0]
            self.grids[key] = resized.flatten(1)
        return self.grids[key]

    def close(self) -> None:
        """Let go of tensors."""
        self.terms, self.state = [], {}
        self.grids.clear()


def attention_grid(cells: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of an attention with ``cells`` places over a latent of ``height`` x ``width``.

    They come of repeated halving; where another script has resized the features, of the most similar shape.
    """
    rows, columns = grid_of(cells, height, width)
    if rows * columns == cells:
        return rows, columns
    divisors = [rows for rows in range(1, cells + 1) if cells % rows == 0]
    rows = min(divisors, key=lambda rows: abs(np.log(rows * rows * width / (cells * height))))
    return rows, cells // rows
