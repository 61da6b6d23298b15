"""The units of one job on the worker: their models, control maps and UNet hooks, and their changes of the results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.api import Generation, UNetHook
from latentd_controlnet.finishing import Finish, finish_of
from latentd_controlnet.kinds.hook import UnitHook
from latentd_controlnet.kinds.latents import noised_fill
from latentd_controlnet.kinds.open import hooks_of
from latentd_controlnet.kinds.reference import ReferenceHook
from latentd_controlnet.maps import LAMA, UnitMaps, make_maps
from latentd_controlnet.prepared import PreparedUnit
from latentd_controlnet.preprocessors.pixels import Pixels
from latentd_controlnet.saving import save_maps

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


class ControlJob:
    """ControlNet's state for one job, released with the job."""

    def __init__(self, prepared: tuple[PreparedUnit, ...], generation: Generation) -> None:
        self.prepared = prepared
        self._maps: list[UnitMaps] = []
        self._finishes: list[Finish] = []
        references = [unit for unit in prepared if unit.module.name.startswith("reference")]
        self._reference = ReferenceHook(tuple(references)) if references else None
        self._hooks: list[UnitHook] = []
        before: UnitHook | None = None
        for unit in prepared:
            own = [] if unit in references else hooks_of(unit, generation, before)
            before = own[0] if own else None
            self._hooks += own

    @property
    def hooks(self) -> list[UNetHook]:
        """The UNet hooks of all units; all reference units share one."""
        return [*self._hooks, *([self._reference] if self._reference else [])]

    def make_maps(self, generation: Generation) -> None:
        """Preprocess every unit's picture in the first batch; later batches use the same maps."""
        if self._maps:
            return
        self._maps = [make_maps(unit, generation) for unit in self.prepared]
        by_unit = dict(zip((unit.index for unit in self.prepared), self._maps, strict=True))
        for hook in self._hooks:
            hook.take(by_unit[hook.prepared.index])
        if self._reference is not None:
            self._reference.give_maps(by_unit)
        finishes = (finish_of(unit, maps, generation) for unit, maps in zip(self.prepared, self._maps, strict=True))
        self._finishes = [finish for finish in finishes if finish is not None]

    def start_noise(self, generation: Generation, noise: Tensor) -> Tensor:
        """A pass's ``noise`` [B,C,h,w]; with LaMa, it has the filled picture in it."""
        for unit, maps in zip(self.prepared, self._maps, strict=False):
            if unit.module.name == LAMA:
                noise = noised_fill(generation, maps, noise)
        return noise

    def finish(self, image: Image) -> Image:
        """A generated picture after recolour and inpaint_only."""
        for finish in self._finishes:
            image = finish(image)
        return image

    def shown_maps(self) -> list[Pixels]:
        """The maps to append to the reply, as uint8 arrays in the order of the units."""
        pairs = zip(self.prepared, self._maps, strict=False)
        return [shown for unit, maps in pairs if unit.unit.save_map for shown in maps.shown]

    def save_maps(self, generation: Generation) -> None:
        """Write the maps beside the pictures if option ``control_net_detectmap_autosaving`` is on."""
        if generation.options["control_net_detectmap_autosaving"]:
            pairs = zip(self.prepared, self._maps, strict=False)
            save_maps([(u.module.name, s) for u, m in pairs if u.unit.save_map for s in m.shown], generation)
