"""What the picture encoders see of a picture."""

from __future__ import annotations

import torch
from interrogation import plain
from latentd_interrogators.pixels import cropped, squashed
from PIL import Image


def striped() -> Image.Image:
    """80x40: a red third at the left, a blue one at the right, green between."""
    image = plain("lime", (80, 40))
    image.paste("red", (0, 0, 20, 40))
    image.paste("blue", (60, 0, 80, 40))
    return image


def test_blip_sees_the_whole_picture_squashed() -> None:
    seen = squashed(striped(), 32)[0]
    assert seen.shape == (3, 32, 32)
    assert seen[:, 16, 2].argmax() == 0
    assert seen[:, 16, 16].argmax() == 1
    assert seen[:, 16, 29].argmax() == 2


def test_clip_sees_the_middle() -> None:
    seen = cropped(striped(), 20)[0]
    assert seen.shape == (3, 20, 20)
    assert (seen.argmax(0) == 1).all()


def test_colours_are_normalised_by_clips_statistics() -> None:
    white, black = cropped(plain("white"), 8), cropped(plain("black"), 8)
    torch.testing.assert_close(white[0, :, 4, 4], torch.tensor([1.9303, 2.0749, 2.1459]), atol=1e-4, rtol=0)
    torch.testing.assert_close(black[0, :, 4, 4], torch.tensor([-1.7923, -1.7521, -1.4802]), atol=1e-4, rtol=0)
