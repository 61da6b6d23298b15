"""Transparent pictures made opaque."""

from __future__ import annotations

from PIL import Image


def flatten(image: Image.Image, background: str = "#ffffff") -> Image.Image:
    """``image`` in RGB, its transparent parts over ``background`` (option ``img2img_background_color``)."""
    if image.mode == "RGBA":
        canvas = Image.new("RGBA", image.size, background)
        canvas.paste(image, mask=image)
        image = canvas
    return image.convert("RGB")
