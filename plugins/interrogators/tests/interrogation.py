"""Pictures and vocabulary of the interrogators' tests."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

NOUNS = ("cat", "dog", "house", "tree", "boat", "lamp", "fish", "bird", "moon", "star", "road", "hill")
WORDS = ["a", "picture", "of", "red", "blue", "green", *NOUNS]
# As in bert-base-uncased, [UNK] to [MASK] are 100 to 103; BLIP adds two words at the end.
BERT = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
WIDTH = 64


def noise(seed: int, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """A picture of coloured noise."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def plain(colour: str, size: tuple[int, int] = (40, 24)) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGB", size, colour)


def as_text(image: Image.Image) -> str:
    """The picture as a request holds it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def write_vocabulary(folder: Path) -> None:
    """BERT's ``vocab.txt``, and what names the tokenizer's class."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(BERT) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
