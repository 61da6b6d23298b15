"""Cutting out a face, upright and with a side of 512 pixels, and putting it back.

A similarity is a pair of complex numbers: z → a·z + b with points as x + iy, that is a rotation, a scaling and a shift.
Coordinates are whole numbers at the centres of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SIDE = 512
"""Width and height of an upright face, in pixels."""

# The places of the eyes, the nose and the corners of the mouth in an upright face (the 512-pixel template of FFHQ).
TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
_OUTSIDE = (132, 133, 135)  # the colour beyond the picture's edge
_INSET, _BLUR = 27, 8.5  # of the mask through which faces are put back, in pixels of the upright face


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """The map z → scale·z + shift of points in the picture to points in an upright face."""

    scale: complex
    shift: complex

    def inverse(self) -> Similarity:
        """The inverse map, from an upright face to the picture."""
        return Similarity(scale=1 / self.scale, shift=-self.shift / self.scale)

    def apply(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mapped points [n,2]."""
        mapped = self.scale * (points[:, 0] + 1j * points[:, 1]) + self.shift
        return np.stack((mapped.real, mapped.imag), axis=1)

    def sampling(self, origin: tuple[int, int] = (0, 0)) -> tuple[float, float, float, float, float, float]:
        """Coefficients for ``Image.transform``, whose result begins at ``origin``: from its pixels to the source's."""
        # Pillow counts from the corner of a pixel, half a pixel from its centre.
        offset = complex(origin[0] - 0.5, origin[1] - 0.5)
        shift = self.scale * offset + self.shift + complex(0.5, 0.5)
        real, imag = self.scale.real, self.scale.imag
        return (real, -imag, shift.real, imag, real, shift.imag)


def fit_similarity(points: NDArray[np.float64], target: NDArray[np.float64] = TEMPLATE) -> Similarity:
    """The similarity that maps ``points`` [n,2] nearest to ``target`` [n,2], by least squares."""
    given, wanted = (side[:, 0] + 1j * side[:, 1] for side in (points, target))
    given_mean, wanted_mean = given.mean(), wanted.mean()
    centred = given - given_mean
    scale = complex(np.vdot(centred, wanted - wanted_mean) / np.vdot(centred, centred))
    return Similarity(scale=scale, shift=complex(wanted_mean - scale * given_mean))


def cut_face(image: Image.Image, upright: Similarity) -> Image.Image:
    """The upright face in ``image``, RGB of 512x512."""
    # A larger face is smoothed first, because fine detail would cause aliasing.
    factor = max(int(1 / abs(upright.scale)), 1)
    source = upright.inverse()
    if factor > 1:
        image = image.reduce(factor)
        centre = complex((factor - 1) / 2, (factor - 1) / 2)
        source = Similarity(scale=source.scale / factor, shift=(source.shift - centre) / factor)
    return image.transform(
        (SIDE, SIDE), Image.Transform.AFFINE, source.sampling(), Image.Resampling.BILINEAR, fillcolor=_OUTSIDE
    )


def paste_face(image: Image.Image, face: Image.Image, upright: Similarity, mask: Image.Image | None = None) -> None:
    """Put ``face`` (RGB of 512x512) back into ``image``, in place, with soft edges.

    :param mask: mode L of 512x512, white where the face is used; :func:`feathered_mask` if None.
    """
    corners = np.array([[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]], dtype=np.float64)
    reached = upright.inverse().apply(corners)
    left, top = (max(int(value), 0) for value in np.floor(reached.min(axis=0)))
    right, bottom = (
        min(int(value) + 1, side) for value, side in zip(np.ceil(reached.max(axis=0)), image.size, strict=True)
    )
    if left >= right or top >= bottom:
        return
    size, coefficients = (right - left, bottom - top), upright.sampling((left, top))
    patch, share = (
        layer.transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
        for layer in (_shrunk(face, upright), _shrunk(mask or feathered_mask(), upright))
    )
    image.paste(patch, (left, top), share)


def _shrunk(layer: Image.Image, upright: Similarity) -> Image.Image:
    """``layer`` at its size, smoothed as much as the reduction that follows needs."""
    factor = abs(upright.scale)
    return layer if factor < 2 else layer.filter(ImageFilter.BoxBlur((factor - 1) / 2))


@lru_cache(maxsize=1)
def feathered_mask() -> Image.Image:
    """A mask in mode L of 512x512: white, with a soft change to black at the border."""
    mask = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(mask).rectangle((_INSET, _INSET, SIDE - _INSET - 1, SIDE - _INSET - 1), fill=255)
    return mask.filter(ImageFilter.GaussianBlur(_BLUR))
