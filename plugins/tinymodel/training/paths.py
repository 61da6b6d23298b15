"""Where the recipe reads and writes, and the public pictures and vocabulary it starts from."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import tarfile
import zipfile
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "latentd_tinymodel"
SCRATCH = Path(os.environ.get("TINYMODEL_SCRATCH", str(Path.home() / ".cache" / "latentd-tinymodel")))
EMOJI = "@lobehub/fluent-emoji-3d@1.1.0"
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"


def picture_folder() -> Path:
    """The folder of the 256x256 RGBA pictures, fetched from the npm registry when it is absent."""
    folder = SCRATCH / "npm" / "package" / "assets"
    if not folder.is_dir():
        target = SCRATCH / "npm"
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", EMOJI], cwd=target, check=True)
        with tarfile.open(next(target.glob("lobehub-*.tgz"))) as archive:
            archive.extractall(target, filter="data")
    return folder


@lru_cache(maxsize=1)
def motifs() -> list[dict[str, object]]:
    """The motifs as listed in the package: name, article, synonyms, asset."""
    return list(json.loads((PACKAGE / "motifs.json").read_text()))


@lru_cache(maxsize=1)
def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's 49,408 tokens and its merges, from the file that open_clip_torch's wheel carries."""
    folder = SCRATCH / "clip"
    if not list(folder.glob("open_clip_torch-*.whl")):
        subprocess.run(["pip", "download", "-q", "--no-deps", "-d", str(folder), "open_clip_torch"], check=True)
    with zipfile.ZipFile(next(folder.glob("open_clip_torch-*.whl"))) as wheel:
        lines = gzip.decompress(wheel.read(f"open_clip/{VOCABULARY}")).decode().split("\n")
    merges = [(a, b) for a, b in (line.split() for line in lines[1 : 49152 - 256 - 2 + 1])]
    letters = [chr(c) for c in byte_letters()]
    tokens = letters + [letter + "</w>" for letter in letters] + [a + b for a, b in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: number for number, token in enumerate(tokens)}, merges


def byte_letters() -> list[int]:
    """The 256 code points byte-level BPE writes bytes with, printable ones first, as CLIP orders them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return printable + list(range(256, 256 + 256 - len(printable)))


@lru_cache(maxsize=4096)
def tokens_of(word: str) -> tuple[int, ...]:
    """CLIP's tokens of one lower-case ASCII word or punctuation mark, by merging the earliest listed pair first."""
    numbers, _ = vocabulary()
    ranks = _ranks()
    parts = [*word[:-1], word[-1] + "</w>"]
    while len(parts) > 1:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get((parts[i], parts[i + 1]), 1 << 30))
        if (parts[best], parts[best + 1]) not in ranks:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return tuple(numbers[part] for part in parts)


@lru_cache(maxsize=1)
def _ranks() -> dict[tuple[str, str], int]:
    return {pair: rank for rank, pair in enumerate(vocabulary()[1])}
