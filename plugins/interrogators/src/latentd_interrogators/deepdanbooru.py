"""Tags of a picture, from DeepDanbooru or a similar tagger, written as in AUTOMATIC1111."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from latentd.api import JsonValue, Services
from latentd_interrogators.files import TaggerFiles, find_tagger
from latentd_interrogators.loading import device_for, loaded

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.api import WorkerContext
    from latentd_interrogators.onnx_tagger import OnnxTagger
    from latentd_interrogators.resnet import ResNetTagger

_SPECIAL = re.compile(r"([\\()])")
RATING = "rating:"
"""What the names of ratings begin with."""


def interrogate(image: Image, context: WorkerContext, *, services: Services) -> str:
    """The tags, separated by commas.

    :raises NotConfigured: weights or onnxruntime are missing; the message says what to do.
    """
    return format_tags(tag_scores(find_tagger(services), image, context), context.options)


def tag_scores(files: TaggerFiles, image: Image, context: WorkerContext) -> dict[str, float]:
    """The probability of every tag that the network in ``files`` knows; names of ratings begin with ``rating:``.

    :raises NotConfigured: onnxruntime is missing.
    :raises ModelLoadError: a file is damaged.
    """
    device = device_for(context)

    def load() -> ResNetTagger | OnnxTagger:
        if files.labels is None:
            from latentd_interrogators.resnet import load_resnet

            return load_resnet(files.weights, device)
        from latentd_interrogators.onnx_tagger import load_onnx

        return load_onnx(files.weights, files.labels, device)

    with loaded(context, files.weights, load) as tagger:
        return tagger.scores(image)


def format_tags(scores: Mapping[str, float], options: Mapping[str, JsonValue]) -> str:
    """``tag, tag`` for the scores that the options admit, without ratings (rules: a1111-interrogate).

    :param scores: tag, with underscores, to its probability.
    """
    threshold = float(options["interrogate_deepbooru_score_threshold"])
    dropped = {tag.strip().replace(" ", "_") for tag in str(options["deepbooru_filter_tags"]).split(",")}
    kept = {
        tag: score
        for tag, score in scores.items()
        if score >= threshold and not tag.startswith(RATING) and tag not in dropped
    }
    tags = sorted(kept) if options["deepbooru_sort_alpha"] else sorted(kept, key=lambda tag: -kept[tag])
    return ", ".join(_written(tag, kept[tag], options) for tag in tags)


def _written(tag: str, score: float, options: Mapping[str, JsonValue]) -> str:
    if options["deepbooru_use_spaces"]:
        tag = tag.replace("_", " ")
    if options["deepbooru_escape"]:
        tag = _SPECIAL.sub(r"\\\1", tag)
    return f"({tag}:{score:.3f})" if options["interrogate_return_ranks"] else tag
