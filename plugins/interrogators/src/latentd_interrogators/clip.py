"""CLIP interrogation as in AUTOMATIC1111: a caption, then the entries of each category that CLIP ranks first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.api import Services
from latentd_interrogators.categories import read_categories
from latentd_interrogators.files import find_captioner, find_ranker
from latentd_interrogators.loading import device_for, loaded

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.api import WorkerContext


def interrogate(image: Image, context: WorkerContext, *, services: Services) -> str:
    """``caption, entry, entry...``, with scores if option ``interrogate_return_ranks`` is on.

    :raises NotConfigured: weights are missing. The message, raised before anything is loaded, says which belong where.
    """
    options = context.options
    categories = read_categories(
        services.paths.data / "interrogate",
        skip=frozenset(options["interrogate_clip_skip_categories"]),
        limit=int(options["interrogate_clip_dict_limit"]),
    )
    captioner_path = find_captioner(services)
    ranker_path = find_ranker(services) if categories else None

    from latentd_interrogators.caption import load_captioner
    from latentd_interrogators.ranking import load_ranker

    device = device_for(context)
    with loaded(context, captioner_path, lambda: load_captioner(captioner_path, device)) as captioner:
        parts = [
            captioner.caption(
                image,
                beams=int(options["interrogate_clip_num_beams"]),
                shortest=int(options["interrogate_clip_min_length"]),
                longest=int(options["interrogate_clip_max_length"]),
            )
        ]
    if ranker_path is None:
        return parts[0]
    with loaded(context, ranker_path, lambda: load_ranker(ranker_path, device)) as ranker:
        features = ranker.image_features(image)
        for category in categories:
            for entry, score in ranker.best(features, category, check=context.check):
                parts.append(f"({entry}:{score:.3f})" if options["interrogate_return_ranks"] else entry)
    return ", ".join(parts)
