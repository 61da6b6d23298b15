"""Noise that looks like a picture: it has the picture's spectrum and the histogram of its colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Reals = NDArray[np.float64]
Complexes = NDArray[np.complex128]


def fill_with_shaped_noise(image: Image.Image, mask: Image.Image, *, exponent: float, colour: float) -> Image.Image:
    """``image`` in RGB with noise of a fixed seed where ``mask`` (of its size, RGB) is white.

    :param exponent: the power of the picture's spectrum by which noise is shaped.
    :param colour: how colourful the noise is, 0..1.
    """
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64) / 255.0
    share = np.asarray(mask.convert("RGB"), dtype=np.float64) / 255.0
    noise = _scaled(_shape(_plain_noise(pixels.shape, colour), _statistics(pixels, share), exponent))
    grey = share.mean(axis=2)
    hidden, shown = grey > 1e-6, grey < 1e-3
    if shown.any():
        noise[hidden] = _match_histograms(noise[hidden], pixels[shown])
    filled = pixels * (1.0 - share) + noise * share
    return Image.fromarray((np.clip(filled, 0.0, 1.0) * 255.0).astype(np.uint8))


def _statistics(pixels: Reals, share: Reals) -> Complexes:
    """The spectrum of the visible part at full brightness, with its mean colour elsewhere."""
    shown = pixels * (1.0 - share.mean(axis=2, keepdims=True))
    shown = shown / max(float(shown.max()), 1e-12) + pixels.mean() * share
    return _spectrum(shown)


def _plain_noise(shape: tuple[int, ...], colour: float) -> Reals:
    """Uniform noise, mostly grey, with damped high frequencies."""
    noise = np.random.default_rng(0).random(shape)
    noise = noise * colour + (1.0 - colour) * noise.mean(axis=2, keepdims=True)
    dampened = _spectrum(noise) * _window(shape[0], shape[1])[..., None]
    return _signal(dampened)


def _shape(noise: Reals, statistics: Complexes, exponent: float) -> Reals:
    strength = np.abs(statistics)
    phase = np.zeros_like(statistics)
    np.divide(statistics, strength, out=phase, where=strength > 0)
    return _signal(np.abs(_spectrum(noise)) ** 2 * strength**exponent * phase)


def _window(height: int, width: int) -> Reals:
    """A window with 1 at the middle of the spectrum that falls off as the product of two Lorentz curves."""
    least = min(height, width)
    y = (np.arange(height) / height * 2.0 - 1.0) * (height / least)
    x = (np.arange(width) / width * 2.0 - 1.0) * (width / least)
    return 1.0 / ((y[:, None] ** 2 + 1.0) * (x[None, :] ** 2 + 1.0))


def _spectrum(signal: Reals) -> Complexes:
    """The Fourier transform [h,w,c] over the first two axes, with the zero frequency in the middle."""
    shifted = np.fft.fftshift(signal, axes=(0, 1))
    return np.fft.ifftshift(np.fft.fft2(shifted, axes=(0, 1), norm="ortho"), axes=(0, 1))


def _signal(spectrum: Complexes) -> Reals:
    shifted = np.fft.fftshift(spectrum, axes=(0, 1))
    back = np.fft.ifftshift(np.fft.ifft2(shifted, axes=(0, 1), norm="ortho"), axes=(0, 1))
    return np.real(back)


def _scaled(noise: Reals) -> Reals:
    noise = noise - noise.min()
    return noise / max(float(noise.max()), 1e-12)


def _match_histograms(source: Reals, target: Reals) -> Reals:
    """``source`` [n,c] with each channel mapped to the quantiles of ``target`` [m,c]."""
    matched = np.empty_like(source)
    for channel in range(source.shape[1]):
        _, places, counts = np.unique(source[:, channel], return_inverse=True, return_counts=True)
        levels, level_counts = np.unique(target[:, channel], return_counts=True)
        ranks, level_ranks = np.cumsum(counts) / len(source), np.cumsum(level_counts) / len(target)
        matched[:, channel] = np.interp(ranks, level_ranks, levels)[places]
    return matched
