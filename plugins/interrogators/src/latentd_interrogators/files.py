"""Finding the weights, and the errors if they are missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latentd.api import NotConfigured, Services, find_models, is_regular, read_regular

CAPTIONER_FILE = "model_base_caption_capfilt_large.pth"
TAGGER_FILE = "model-resnet_custom_v3.pt"
TORCH_KIND, ONNX_KIND = "torch_deepdanbooru", "WD14"
"""Kinds of models, after which their folders are called."""
_LABELS = ("selected_tags.csv", "tags.txt")
_MAX_CONFIG = 1 << 20
_OFFLINE = "nothing is downloaded by itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggerFiles:
    """A tagger's weights; ``labels`` is None if the file of the weights includes them."""

    weights: Path
    labels: Path | None = None


def find_captioner(services: Services) -> Path:
    """The folder of a BLIP captioner in transformers' layout, or AUTOMATIC1111's single file.

    :raises NotConfigured: neither exists, or the vocabulary beside the single file is missing.
    """
    folders = services.paths.models("BLIP")
    folder = _model_folder(folders, "blip")
    if folder is not None:
        return folder
    for path in (found.path for root in folders for found in find_models(root, (".pth",))):
        if path.name != CAPTIONER_FILE:
            continue
        if not (path.parent / "vocab.txt").is_file():
            raise NotConfigured(
                f"interrogator 'clip' has no vocabulary: vocab.txt is missing in {path.parent}",
                hint=f"put vocab.txt of bert-base-uncased beside {CAPTIONER_FILE}; {_OFFLINE}",
            )
        return path
    raise NotConfigured(
        f"interrogator 'clip' has no caption model: no BLIP model in {folders[0]}",
        hint=f"put the files of Salesforce/blip-image-captioning-base into a folder there; {_OFFLINE}",
    )


def find_ranker(services: Services) -> Path:
    """The folder of a CLIP model in transformers' layout.

    :raises NotConfigured: there is none.
    """
    folders = services.paths.models("CLIP")
    folder = _model_folder(folders, "clip")
    if folder is None:
        raise NotConfigured(
            f"interrogator 'clip' has category files and no CLIP model: none in {folders[0]}",
            hint=f"put the files of openai/clip-vit-large-patch14 into a folder there; {_OFFLINE}",
        )
    return folder


def find_tagger(services: Services) -> TaggerFiles:
    """DeepDanbooru's torch file, or else the first ONNX file with labels beside it.

    :raises NotConfigured: neither exists.
    """
    for files in (*torch_taggers(services), *onnx_taggers(services)):
        return files
    raise NotConfigured(
        f"interrogator 'deepdanbooru' has no weights: {TAGGER_FILE} is missing in "
        f"{services.paths.models(TORCH_KIND)[0]}, "
        f"and a WD14 tagger's model.onnx with selected_tags.csv in {services.paths.models(ONNX_KIND)[0]}",
        hint=f"put either there; {_OFFLINE}",
    )


def torch_taggers(services: Services) -> list[TaggerFiles]:
    """DeepDanbooru's torch files."""
    roots = services.paths.models(TORCH_KIND)
    return [TaggerFiles(weights=file.path) for root in roots for file in find_models(root, (".pt", ".pth"))]


def onnx_taggers(services: Services) -> list[TaggerFiles]:
    """The ONNX files with labels beside them."""
    roots = services.paths.models(ONNX_KIND)
    paths = [file.path for root in roots for file in find_models(root, (".onnx",))]
    pairs = [(path, next(filter(is_regular, (path.parent / name for name in _LABELS)), None)) for path in paths]
    return [TaggerFiles(weights=path, labels=labels) for path, labels in pairs if labels is not None]


def _model_folder(roots: Sequence[Path], model_type: str) -> Path | None:
    """The first folder, among ``roots`` and their subfolders, whose config.json names ``model_type``."""
    for root in roots:
        for config in (root / "config.json", *sorted(root.glob("*/config.json"))):
            if is_regular(config) and _type_of(config) == model_type:
                return config.parent
    return None


def _type_of(config: Path) -> str | None:
    try:
        return str(json.loads(read_regular(config, _MAX_CONFIG))["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
