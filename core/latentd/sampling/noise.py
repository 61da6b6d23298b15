"""Starting noise and sampler noise, drawn for each picture from its own generator.

A batch therefore gives the same pictures as its members do one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from latentd.sampling.philox import PhiloxGenerator

RandnSource: TypeAlias = Literal["GPU", "CPU", "NV"]
Shape: TypeAlias = tuple[int, ...]
Drawer: TypeAlias = Callable[[Shape], Tensor]

_ALMOST_PARALLEL = 0.9995
_PIXELS_PER_LATENT = 8


def seeded_drawer(seed: int, source: RandnSource, device: torch.device | str = "cpu") -> Drawer:
    """A function that returns the next standard normal draw of a fresh generator: float32, on ``device``.

    :param seed: any integer; taken modulo 2**64.
    :param source: "CPU" is torch's CPU generator; "NV" the software copy of CUDA's; "GPU" is the generator of
        ``device`` when that is a CUDA device, torch's CPU generator on MPS, and otherwise "NV".
    """
    device = torch.device(device)
    if source == "CPU" or (source == "GPU" and device.type in ("cuda", "mps")):
        generator_device = device if source == "GPU" and device.type == "cuda" else torch.device("cpu")
        generator = torch.Generator(generator_device).manual_seed(_signed(seed))
        return lambda shape: torch.randn(shape, generator=generator, device=generator_device).to(device)
    philox = PhiloxGenerator(seed)
    return lambda shape: torch.from_numpy(philox.randn(shape)).to(device)


def _signed(seed: int) -> int:
    """``seed`` modulo 2**64, as the signed 64-bit integer that torch accepts."""
    folded = seed % (1 << 64)
    return folded - (1 << 64) if seed < 0 and folded >= 1 << 63 else folded


def slerp(strength: float, low: Tensor, high: Tensor) -> Tensor:
    """The spherical interpolation from ``low`` to ``high``, as AUTOMATIC1111 does it for variation seeds.

    :param strength: 0 gives ``low``, 1 gives ``high`` (the other way round for all but parallel inputs).
    :param low: ``(C, h, w)``; norms and products are taken along its height.
    :param high: the same shape.
    """
    low_unit = low / torch.norm(low, dim=1, keepdim=True)
    high_unit = high / torch.norm(high, dim=1, keepdim=True)
    cosine = (low_unit * high_unit).sum(1)
    if cosine.mean() > _ALMOST_PARALLEL:
        return low * strength + high * (1 - strength)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    low_part = (torch.sin((1.0 - strength) * angle) / sine).unsqueeze(1) * low
    return low_part + (torch.sin(strength * angle) / sine).unsqueeze(1) * high


def _paste_centred(target: Tensor, patch: Tensor) -> None:
    """Copy ``patch`` into the middle of ``target``, cut to fit; an odd difference leaves less room above and left."""
    slices: list[tuple[slice, slice]] = []
    for axis in (1, 2):
        offset = (target.shape[axis] - patch.shape[axis]) // 2
        length = patch.shape[axis] + min(0, 2 * offset)
        start, skip = max(offset, 0), max(-offset, 0)
        slices.append((slice(start, start + length), slice(skip, skip + length)))
    (rows, patch_rows), (columns, patch_columns) = slices
    target[:, rows, columns] = patch[:, patch_rows, patch_columns]


class NoiseStream:
    """The noise of one batch: the starting noise first, then the noise that the sampler adds.

    :param shape: latent shape of one picture, ``(C, h, w)``.
    :param seeds: one seed for each picture.
    :param source: see :func:`seeded_drawer`.
    :param subseeds: one variation seed for each picture; missing ones count as 0.
    :param subseed_strength: 0 (no variation) to 1.
    :param seed_resize_from: (width, height) in pixels of the picture whose composition is wanted; active when both
        are positive.
    :param ensd: option ``eta_noise_seed_delta``: after the first draw every picture gets a new generator, seeded with
        seed + ensd.
    :param device: the device of the noise.
    :ivar used_ensd: whether noise was drawn after the first draw while ``ensd`` was not 0.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        seeds: Sequence[int],
        source: RandnSource,
        *,
        subseeds: Sequence[int] = (),
        subseed_strength: float = 0.0,
        seed_resize_from: tuple[int, int] = (0, 0),
        ensd: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._shape = tuple(shape)
        self._seeds = list(seeds)
        self._source: RandnSource = source
        self._subseeds = list(subseeds)
        self._subseed_strength = subseed_strength
        self._ensd = ensd
        self._device = torch.device(device)
        self.restart()
        self._composition_shape = self._shape
        width, height = seed_resize_from
        if width > 0 and height > 0:
            self._composition_shape = (shape[0], height // _PIXELS_PER_LATENT, width // _PIXELS_PER_LATENT)

    def restart(self) -> None:
        """Start again: the next draw is the starting noise."""
        self._drawers = [self._drawer(seed) for seed in self._seeds]
        self._started = False
        self.used_ensd = False

    def next(self) -> Tensor:
        """The next draw, ``(B, C, h, w)`` float32; the first is the starting noise."""
        if not self._started:
            return self.first()
        self.used_ensd = bool(self._ensd)
        return torch.stack([draw(self._shape) for draw in self._drawers])

    def first(self) -> Tensor:
        """The starting noise, ``(B, C, h, w)`` float32, with variation seeds and seed resizing applied.

        :raises ValueError: something has been drawn from the stream already.
        """
        if self._started:
            raise ValueError("the starting noise of this stream has already been drawn")
        self._started = True
        noise = torch.stack([self._first_of(index) for index in range(len(self._seeds))])
        if self._ensd:
            self._drawers = [self._drawer(seed + self._ensd) for seed in self._seeds]
        return noise

    def _first_of(self, index: int) -> Tensor:
        draw, shape = self._drawers[index], self._composition_shape
        resized = shape != self._shape
        noise = self._drawer(self._seeds[index])(shape) if resized else draw(shape)
        if self._subseed_strength:
            subseed = self._subseeds[index] if index < len(self._subseeds) else 0
            noise = slerp(self._subseed_strength, noise, self._drawer(subseed)(shape))
        if not resized:
            return noise
        full = draw(self._shape)
        _paste_centred(full, noise)
        return full

    def _drawer(self, seed: int) -> Drawer:
        return seeded_drawer(seed, self._source, self._device)
