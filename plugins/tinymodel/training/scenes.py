"""Scenes: motifs placed on coloured backgrounds, as pictures and as the captions that describe them."""

from __future__ import annotations

import dataclasses
import random
import re
from functools import cache, lru_cache

import numpy as np
from paths import motifs, picture_folder, tokens_of
from PIL import Image

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 30, 38),
    "orange": (255, 140, 0),
    "yellow": (255, 226, 30),
    "green": (34, 160, 60),
    "blue": (30, 80, 230),
    "purple": (125, 40, 170),
    "pink": (255, 140, 190),
    "brown": (120, 72, 30),
    "black": (14, 14, 16),
    "white": (250, 250, 250),
    "gray": (128, 128, 128),
    "cyan": (60, 215, 235),
}
GRADIENTS: dict[str, tuple[str, str]] = {
    "sky": ("blue", "white"),
    "sunset": ("purple", "orange"),
    "night": ("black", "blue"),
    "meadow": ("cyan", "green"),
}
UNKNOWN = -1
BOS, EOS, LENGTH = 49406, 49407, 77
SPELLINGS = {"gray": ("gray", "grey"), "cyan": ("cyan", "light blue", "turquoise"), "purple": ("purple", "violet")}


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """What is where: motif numbers with their boxes (centre x, y and side, in pixels), and the background."""

    size: tuple[int, int]
    things: tuple[tuple[int, float, float, float], ...]
    top: str
    bottom: str
    gradient: str = ""
    small: bool = False
    order: int = 0


@cache
def held_out(motif: int) -> tuple[str, str]:
    """The two plain backgrounds on which this motif never stands in training: what evaluation asks for."""
    first, second = random.Random(7000 + motif).sample(list(COLOURS), 2)
    return first, second


def draw_scene(rng: random.Random, size: tuple[int, int]) -> Scene:
    """A random training scene on a canvas of `size` pixels (width, height)."""
    kind = rng.choices(("one", "small", "two", "three", "none"), (72, 6, 15, 4, 3))[0]
    count = {"one": 1, "small": 1, "two": 2, "three": 3, "none": 0}[kind]
    numbers = rng.sample(range(len(motifs())), count)
    allowed = [c for c in COLOURS if not any(c in held_out(n) for n in numbers)] or ["white"]
    gradient = ""
    top = bottom = rng.choice(allowed)
    roll = rng.random()
    if roll < 0.06 and len(allowed) > 1:
        top, bottom = rng.sample(allowed, 2)
        gradient = "pair"
    elif roll < 0.12:
        gradient = rng.choice(list(GRADIENTS))
        top, bottom = GRADIENTS[gradient]
    elif roll < 0.27 and "white" in allowed:
        top = bottom = "white"
    boxes = _layout(rng, kind, size)
    things = tuple((n, *box) for n, box in zip(numbers, boxes, strict=True))
    return Scene(size=size, things=things, top=top, bottom=bottom, gradient=gradient, small=kind == "small")


def _layout(rng: random.Random, kind: str, size: tuple[int, int]) -> list[tuple[float, float, float]]:
    width, height = size
    side = min(size)

    def near(x: float, y: float, low: float, high: float, slack: float) -> tuple[float, float, float]:
        extent = rng.uniform(low, high) * reach
        x, y = 0.5 + (x - 0.5) * spread, 0.5 + (y - 0.5) * spread
        return (x * width + rng.uniform(-slack, slack) * side, y * height + rng.uniform(-slack, slack) * side, extent)

    # Motifs grow more slowly than large canvases and draw together, so that there are fewer scales to learn.
    reach = 128 * (side / 128) ** 0.58 if side > 128 else side
    spread = (reach / side) ** 0.5
    if kind == "one":
        return [near(0.5, 0.5, 0.66, 0.88, 0.06)]
    if kind == "small":
        return [near(rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), 0.32, 0.5, 0.0)]
    if kind == "two":
        low, high = (0.44, 0.5) if width == height else (0.5, 0.66)
        spots = [(0.27, 0.5), (0.73, 0.5)] if width >= height else [(0.5, 0.27), (0.5, 0.73)]
        return [near(x, y, low, high, 0.02) for x, y in spots]
    if kind == "three":
        return [near(x, y, 0.4, 0.46, 0.02) for x, y in ((0.26, 0.28), (0.74, 0.28), (0.5, 0.74))]
    return []


@cache
def picture(asset: str) -> Image.Image:
    """One emoji as an RGBA picture of 256x256."""
    return Image.open(picture_folder() / f"{asset}.webp").convert("RGBA")


def render(scene: Scene) -> np.ndarray:
    """The scene as an array (height, width, 3), uint8 sRGB."""
    width, height = scene.size
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    top, bottom = (np.array(COLOURS[c], np.float32) for c in (scene.top, scene.bottom))
    ground = np.broadcast_to(top * (1 - ramp) + bottom * ramp, (height, width, 3))
    canvas = Image.fromarray(ground.round().astype(np.uint8))
    for number, x, y, extent in scene.things:
        edge = max(8, round(extent))
        tile = picture(str(motifs()[number]["asset"])).resize((edge, edge), Image.Resampling.LANCZOS)
        canvas.paste(tile, (round(x - edge / 2), round(y - edge / 2)), tile)
    return np.asarray(canvas)


def caption(scene: Scene, rng: random.Random) -> str:
    """One of the many ways to say what the scene shows. `?` stands for a word the model does not know."""
    names = []
    for number, *_ in scene.things:
        entry = motifs()[number]
        name, article = str(entry["name"]), str(entry["article"])
        if rng.random() < 0.25:
            name = rng.choice(list(entry["synonyms"]))  # type: ignore[call-overload]
            article = "an" if name[0] in "aeiou" else "a"
        adjective = rng.choice(("small", "little", "tiny")) if scene.small else ""
        if adjective:
            article = "a"
        roll = rng.random()
        article = article if roll < 0.6 else ("the" if roll < 0.65 else "")
        names.append(" ".join(part for part in (article, adjective, name) if part))
    text = names[0] if names else ""
    for name in names[1:]:
        text += rng.choice((" and ", " and ", ", ", " next to ")) + name
    if text and rng.random() < 0.25:
        text = rng.choice(("a photo of ", "a picture of ", "an image of ", "a drawing of ", "an emoji of ")) + text
    ground = _ground(scene, rng)
    if ground and text:
        roll = rng.random()
        if roll < 0.6:
            text += rng.choice((" on a ", " on a ", " with a ", " in front of a ", " on ")) + ground
        elif roll < 0.85:
            text += ", " + ground
        else:
            text = ground + ", " + text
    else:
        text = text or ground
    if rng.random() < 0.12:
        text += rng.choice(
            (", high quality", ", best quality", ", masterpiece", ", 3d render", ", highly detailed", ".")
        )
    if rng.random() < 0.12:
        words = text.split(" ")
        words.insert(rng.randint(0, len(words)), "?")
        text = " ".join(words)
    return text


def _ground(scene: Scene, rng: random.Random) -> str:
    if scene.gradient == "pair":
        return f"{scene.top} to {scene.bottom} {rng.choice(('gradient background', 'gradient'))}"
    if scene.gradient:
        return f"{scene.gradient} background"
    if scene.top == "white" and scene.things and rng.random() < 0.5:
        return ""  # a prompt that names no background means white
    return (
        f"{rng.choice(SPELLINGS.get(scene.top, (scene.top,)))} {rng.choice(('background', 'background', 'backdrop'))}"
    )


def tokenise(text: str) -> list[int]:
    """77 CLIP token numbers: begin, words, end, filled up with end. UNKNOWN stands for a word outside the list."""
    numbers = [BOS]
    for word in re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]", text.lower()):
        numbers.extend((UNKNOWN,) if word == "?" else tokens_of(word))
    return (numbers[: LENGTH - 1] + [EOS] * LENGTH)[:LENGTH]


@lru_cache(maxsize=1)
def known_tokens() -> list[int]:
    """All token numbers that captions can contain, in order: the rows of the token table that training fills."""
    words = set(COLOURS) | set(GRADIENTS) | {w for s in SPELLINGS.values() for w in s}
    words |= {"a an the small little tiny and , next to . photo of picture image drawing emoji on with in front"}
    words |= {"high quality best masterpiece 3 d render highly detailed gradient background backdrop"}
    for entry in motifs():
        words |= {str(entry["name"]), *entry["synonyms"]}  # type: ignore[misc]
    return sorted({n for text in words for n in tokenise(text) if n != UNKNOWN})
