"""The cells of an X/Y/Z plot: their requests, the order in which they are computed, and their results."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from latentd.api import GeneratedImage, GenerationRequest, LatentdError, Mode, Result, ScriptRuns, Services
from latentd_scripts.xyz.arguments import XYZArgs
from latentd_scripts.xyz.axes import NOTHING, AnyAxis, axes_of, find_axis
from latentd_scripts.xyz.values import Value, join_text, read_values, split_text

log = logging.getLogger(__name__)

_SEEDS = ("Seed", "Var. seed")
_MAX_SEED = 4294967294
Place = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisValues:
    """An axis with its values; ``text`` is the text of the request from which they were read."""

    axis: AnyAxis
    values: Sequence[Value]
    text: str

    def __len__(self) -> int:
        return len(self.values)

    @property
    def legends(self) -> list[str]:
        """The legend of each value; one empty legend for an axis without values."""
        return ["" if self.axis is NOTHING else self.axis.text(value) for value in self.values]

    def infotext(self, letter: str, *, fixed_seeds: bool) -> dict[str, str]:
        """The entries for this axis in the grid's infotext."""
        if self.axis is NOTHING:
            return {}
        entries = {f"{letter} Type": self.axis.label, f"{letter} Values": self.text}
        if fixed_seeds and self.axis.label in _SEEDS:
            entries[f"Fixed {letter} Values"] = ", ".join(str(value) for value in self.values)
        return entries


def read_axes(args: XYZArgs, mode: Mode, services: Services) -> tuple[AxisValues, AxisValues, AxisValues]:
    """The axes X, Y and Z.

    :raises LatentdError: an axis is unknown, or its values cannot be read or do not exist.
    """
    offered = axes_of(mode)
    x, y, z = (
        _read_axis(find_axis(offered, getattr(args, f"{letter}_type")), args, letter, services) for letter in "xyz"
    )
    return x, y, z


def _read_axis(axis: AnyAxis, args: XYZArgs, letter: str, services: Services) -> AxisValues:
    if axis is NOTHING:
        return AxisValues(axis=axis, values=[0], text="")
    text, chosen = getattr(args, f"{letter}_values"), getattr(args, f"{letter}_values_dropdown")
    if axis.choices is not None and not args.csv_mode and (chosen or not text):
        text, entries = join_text(chosen), chosen
    else:
        entries = split_text(text)
    values = read_values(axis.kind, entries, axis.label)
    if axis.check is not None:
        axis.check(values, services)
    if axis.label in _SEEDS and not args.no_fixed_seeds:
        values = [secrets.randbelow(_MAX_SEED) if value == -1 else value for value in values]
    return AxisValues(axis=axis, values=values, text=text)


class Cells:
    """The grid's cells and their generations."""

    def __init__(self, runs: ScriptRuns, args: XYZArgs, axes: tuple[AxisValues, AxisValues, AxisValues]) -> None:
        self.runs = runs
        self.args = args
        self.x, self.y, self.z = axes
        self.results: dict[Place, Result] = {}
        self.errors: list[LatentdError] = []
        base = runs.request
        if args.no_fixed_seeds:
            base = replace(base, seed=runs.plan.request.seed, subseed=runs.plan.request.subseed)
        if not runs.plan.options["return_grid"]:
            base = replace(base, batch_size=1)
        self.base: GenerationRequest = base

    def request(self, place: Place) -> GenerationRequest:
        """The request of one cell.

        :raises LatentdError: a value does not fit.
        """
        request, services = self.base, self.runs.services
        for axis, index in zip((self.x, self.y, self.z), place, strict=True):
            request = axis.axis.apply(request, axis.values[index], axis.values, services)
        (ix, iy, iz), args = place, self.args
        across = len(self.x) if args.vary_seeds_x else 1
        down = len(self.y) if args.vary_seeds_y else 1
        offset = ix * args.vary_seeds_x + iy * args.vary_seeds_y * across + iz * args.vary_seeds_z * across * down
        return replace(request, seed=request.seed + offset) if offset else request

    def run(self) -> None:
        """Compute every cell until the job is interrupted; a cell that fails stays empty.

        :raises LatentdError: all cells failed; the error is that of the first.
        """
        count = len(self.x) * len(self.y) * len(self.z)
        self.runs.start(count * self.base.n_iter)
        for place in self.order():
            if self.runs.interrupted:
                break
            label = f"{self.number(place) + 1} out of {count}"
            try:
                self.results[place] = self.runs.generate(self.runs.plan_for(self.request(place)), label)
            except LatentdError as error:
                if self.runs.interrupted:
                    raise
                log.warning("a cell of the X/Y/Z plot stays empty: %s", error)
                self.errors.append(error)
        if self.errors and not any(result.images for result in self.results.values()):
            raise self.errors[0]

    def number(self, place: Place) -> int:
        """The index of a cell in the reply."""
        ix, iy, iz = place
        return ix + iy * len(self.x) + iz * len(self.x) * len(self.y)

    def order(self) -> Iterator[Place]:
        """All places; the axis that costs most to change is outermost, or z and then y if costs are equal."""
        costs = [self.x.axis.cost, self.y.axis.cost, self.z.axis.cost]
        outer = _costliest(costs, (0, 1, 2), default=2)
        rest = [n for n in (0, 1, 2) if n != outer]
        middle = _costliest(costs, rest, default=1 if outer == 2 else 2)
        inner = next(n for n in rest if n != middle)
        lengths = [len(self.x), len(self.y), len(self.z)]
        for outer_index, middle_index, inner_index in itertools.product(
            range(lengths[outer]), range(lengths[middle]), range(lengths[inner])
        ):
            at = {outer: outer_index, middle: middle_index, inner: inner_index}
            yield at[0], at[1], at[2]

    def first_of(self, place: Place) -> GeneratedImage | None:
        """The picture of a cell that the grid shows."""
        result = self.results.get(place)
        return result.images[0] if result is not None and result.images else None


def _costliest(costs: Sequence[float], among: Sequence[int], *, default: int) -> int:
    dearest = max(among, key=lambda n: costs[n])
    alone = all(costs[n] < costs[dearest] for n in among if n != dearest)
    return dearest if alone else default
