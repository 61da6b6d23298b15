"""CIE L*a*b* of 8-bit sRGB pictures, rounded as OpenCV's uint8 conversion rounds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]

_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE = np.array([0.950456, 1.0, 1.088754])
"""XYZ of the white point D65."""

_LINEAR = 8 * 255
_FIXED = 1 << 12
_CBRT = 1 << 15
_KNEE = 216 / 24389
_SLOPE = 841 / 108
_OFFSET = 16 / 116


def _linearise(encoded: F64) -> F64:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _encode(linear: F64) -> F64:
    clipped = np.clip(linear, 0.0, 1.0)
    return np.where(clipped <= 0.0031308, clipped * 12.92, 1.055 * clipped ** (1 / 2.4) - 0.055)


def _root(ratio: F64) -> F64:
    return np.where(ratio < _KNEE, ratio * _SLOPE + _OFFSET, np.cbrt(ratio))


_GAMMA_TABLE = np.rint(_LINEAR * _linearise(np.arange(256) / 255)).astype(np.int64)
_ROOT_TABLE = np.rint(_CBRT * _root(np.arange(256 * 3 // 2 * 8) / _LINEAR)).astype(np.int64)
_ENCODE_TABLE = np.rint(255 * _encode(np.arange(_FIXED) / _FIXED)).astype(np.uint8)
_FROM_XYZ = np.linalg.inv(_TO_XYZ)
_FIXED_XYZ = np.rint(_FIXED * _TO_XYZ / _WHITE[:, None]).astype(np.int64)


def rgb_to_lab(rgb: U8) -> U8:
    """L*a*b* of ``rgb`` (…, 3): L from 0..100 to 0..255, a and b offset by 128; integer arithmetic throughout."""
    linear = _GAMMA_TABLE[rgb]
    ratios = (linear @ _FIXED_XYZ.T + _FIXED // 2) // _FIXED
    fx, fy, fz = np.moveaxis(_ROOT_TABLE[ratios], -1, 0)
    scale = (116 * 255 + 50) // 100
    shift = (16 * 255 * _CBRT + 50) // 100
    half = _CBRT // 2
    lightness = (scale * fy - shift + half) // _CBRT
    green_red = (500 * (fx - fy) + 128 * _CBRT + half) // _CBRT
    blue_yellow = (200 * (fy - fz) + 128 * _CBRT + half) // _CBRT
    lab: U8 = np.clip(np.stack([lightness, green_red, blue_yellow], axis=-1), 0, 255).astype(np.uint8)
    return lab


def lab_to_rgb(lab: U8) -> U8:
    """The sRGB colours of ``lab`` (…, 3), scaled as by :func:`rgb_to_lab`; colours outside the gamut are clipped."""
    values = lab.astype(np.float64)
    lightness = values[..., 0] * (100 / 255)
    low = lightness <= 8
    y = np.where(low, lightness * (27 / 24389), ((lightness + 16) / 116) ** 3)
    fy = np.where(low, _SLOPE * y + _OFFSET, (lightness + 16) / 116)
    fx = fy + (values[..., 1] - 128) / 500
    fz = fy - (values[..., 2] - 128) / 200
    x, z = (np.where(f <= 6 / 29, (f - _OFFSET) / _SLOPE, f**3) for f in (fx, fz))
    xyz = np.stack([x, y, z], axis=-1) * _WHITE
    linear = np.clip(np.rint(xyz @ _FROM_XYZ.T * _FIXED), 0, _FIXED - 1).astype(np.int64)
    rgb: U8 = _ENCODE_TABLE[linear]
    return rgb
