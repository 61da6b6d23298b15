"""The pictures to learn from: read, fitted, turned into latents once, and dealt out in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Literal

from latentd.api import (
    InvalidRequest,
    JobControl,
    LatentdError,
    Services,
    check_pixels,
    check_size,
    is_regular,
    open_picture,
    read_regular,
)
from latentd_training.captions import Prompter, caption_of, readable
from latentd_training.folders import check_inside

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Generator, Tensor

    from latentd.api import TrainableModel

Sampling = Literal["once", "deterministic", "random"]
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff")
MAX_PICTURES = 20_000
CELL = 8
"""Pixels a latent cell and side; sizes are multiples of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """How pictures are read. ``width`` and ``height`` are in pixels; with ``keep_sizes`` each keeps its own.

    ``batch_size`` pictures are trained on at once.
    """

    folder: Path
    width: int
    height: int
    batch_size: int = 1
    keep_sizes: bool = False
    sampling: Sampling = "once"
    use_alpha: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One picture: ``mean`` and ``deviation`` [4,h,w] of its latents, and ``weight`` [1,h,w] of its loss, or None.

    Without ``deviation`` the latent is ``mean``.
    """

    name: str
    caption: str
    mean: Tensor
    deviation: Tensor | None
    weight: Tensor | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.mean.shape[-1] * CELL, self.mean.shape[-2] * CELL

    def latent(self, generator: Generator) -> Tensor:
        """A latent [4,h,w]; drawn with ``generator`` where it is drawn anew each time."""
        import torch

        if self.deviation is None:
            return self.mean
        return self.mean + self.deviation * torch.randn(self.mean.shape, generator=generator)


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """The examples of one folder, in the order of their names."""

    examples: Sequence[Example]

    def batches(self, *, size: int, repeats: int, random: Random) -> list[list[int]]:
        """The batches of one epoch, numbers of examples: each at least ``repeats`` times, those of a batch of one size.

        A group of pictures that leaves a batch short has it filled up from the same group.
        """
        groups: dict[tuple[int, int], list[int]] = {}
        for number, example in enumerate(self.examples):
            groups.setdefault(example.size, []).extend([number] * repeats)
        found: list[list[int]] = []
        for group in groups.values():
            order = random.sample(group, len(group))
            order += [random.choice(group) for _ in range(-len(order) % size)]
            found += [order[start : start + size] for start in range(0, len(order), size)]
        random.shuffle(found)
        return found


def picture_files(folder: Path) -> list[Path]:
    """The picture files of a folder by their endings, in the order of their names.

    :raises InvalidRequest: over :data:`MAX_PICTURES`.
    """
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith("."))
    if len(found) > MAX_PICTURES:
        raise InvalidRequest(f"data_root: {len(found)} pictures", hint=f"{MAX_PICTURES} at most")
    return found


def read_picture(path: Path, services: Services) -> Image:
    """The picture in ``path``, within the server's bounds for pictures.

    :raises LatentdError: it is damaged or too large, or a link out of the folders for training.
    :raises OSError: it cannot be read.
    """
    check_inside(services, path)
    if not is_regular(path):
        raise InvalidRequest(f"{path.name} is no regular file")
    limit = int(services.settings.max_request_mb * (1 << 20))
    try:
        data = read_regular(path, limit)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    return open_picture(data, services.settings.max_pixels)


def load_examples(
    options: DataOptions,
    prompter: Prompter,
    model: TrainableModel,
    services: Services,
    control: JobControl,
    generator: Generator,
) -> DataSet:
    """Every picture of the folder as latents, on the CPU; files that cannot be used are reported and left out.

    :param generator: draws the latents of sampling ``once``.
    :raises InvalidRequest: none can be used. :raises Interrupted: the job was stopped.
    """
    examples: list[Example] = []
    for path in picture_files(options.folder):
        control.check()
        name = readable(path.name)
        try:
            fitted = fit(read_picture(path, services), options)
            check_size(*fitted.size, services.settings)
            area = options.batch_size * fitted.width * fitted.height
            check_pixels(area, area, services.settings)
            caption = caption_of(path, services)
            prompter.check(caption, services)
        except (LatentdError, OSError, ValueError) as error:
            control.warn(f"{name} is left out: {getattr(error, 'detail', error)}")
            continue
        examples.append(_example(name, caption, fitted, options, model, generator))
    if not examples:
        raise InvalidRequest("data_root: No images have been found in the dataset.", hint=", ".join(ENDINGS))
    return DataSet(tuple(examples))


def fit(picture: Image, options: DataOptions) -> Image:
    """``picture`` at the size of the training, stretched as AUTOMATIC1111 does; or its own, cut to whole cells.

    :raises ValueError: it is smaller than one cell.
    """
    from PIL import Image

    if not options.keep_sizes:
        size = (options.width, options.height)
        return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)
    width, height = (side // CELL * CELL for side in picture.size)
    if not width or not height:
        raise ValueError(f"{picture.width}x{picture.height} is too small")
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _example(
    name: str, caption: str, picture: Image, options: DataOptions, model: TrainableModel, generator: Generator
) -> Example:
    import numpy as np
    import torch

    pixels = torch.from_numpy(np.array(picture.convert("RGB"), dtype=np.float32) / 255.0).permute(2, 0, 1)
    mean, deviation = (part[0].cpu() for part in model.latent_distribution(pixels))
    if options.sampling == "once":
        mean = mean + deviation * torch.randn(mean.shape, generator=generator)
    weight = alpha_weight(picture, (mean.shape[-2], mean.shape[-1])) if options.use_alpha else None
    return Example(name, caption, mean, deviation if options.sampling == "random" else None, weight)


def alpha_weight(picture: Image, size: tuple[int, int]) -> Tensor:
    """Weights [1,h,w] of the loss from the picture's alpha: least 0, mean 1; all 1 where it has none, or one value.

    :param size: h, w.
    """
    import numpy as np
    import torch
    from PIL import Image

    height, width = size
    if "A" not in picture.getbands():
        return torch.ones(1, height, width)
    alpha = picture.getchannel("A").resize((width, height), Image.Resampling.BICUBIC)
    weight = torch.from_numpy(np.array(alpha, dtype=np.float32))[None]
    weight = weight - weight.min()
    mean = weight.mean()
    return weight / mean if float(mean) > 0 else torch.ones_like(weight)
