"""The taggers in the models folders by name, and the names under which clients know the published ones."""

from __future__ import annotations

from collections.abc import Mapping

from latentd.api import NotConfigured, NotFound, Services, near_matches
from latentd_interrogators.files import ONNX_KIND, TaggerFiles, onnx_taggers, torch_taggers

TORCH_NAME = "deepdanbooru"

_REPOSITORIES: Mapping[str, tuple[str, ...]] = {
    "wd-v1-4-vit-tagger": ("wd14-vit", "wd14-vit-v1"),
    "wd-v1-4-convnext-tagger": ("wd14-convnext", "wd14-convnext-v1"),
    "wd-v1-4-vit-tagger-v2": ("wd14-vit-v2", "wd14-vit-v2-git"),
    "wd-v1-4-convnext-tagger-v2": ("wd14-convnext-v2", "wd14-convnext-v2-git"),
    "wd-v1-4-convnextv2-tagger-v2": ("wd14-convnextv2-v2", "wd14-convnextv2-v2-git", "wd14-convnextv2-v1"),
    "wd-v1-4-swinv2-tagger-v2": ("wd14-swinv2-v2", "wd14-swinv2-v2-git", "wd14-swinv2-v1"),
    "wd-v1-4-moat-tagger-v2": ("wd14-moat-v2", "wd14-moat-tagger-v2", "wd-v1-4-moat-tagger.v2"),
    "wd-vit-tagger-v3": ("wd-vit-v3", "wd14-vit-v3", "wd-v1-4-vit-tagger.v3"),
    "wd-swinv2-tagger-v3": ("wd-swinv2-v3", "wd14-swinv2-v3", "wd-v1-4-swinv2-tagger.v3"),
    "wd-convnext-tagger-v3": ("wd-convnext-v3", "wd14-convnext-v3", "wd-v1-4-convnext-tagger.v3"),
    "wd-vit-large-tagger-v3": (),
    "wd-eva02-large-tagger-v3": (),
}
"""Published taggers, by the name of the repository, with the names that the tagger extensions give them."""
PUBLISHED = {name: repository for repository, names in _REPOSITORIES.items() for name in (repository, *names)}


def taggers(services: Services) -> dict[str, TaggerFiles]:
    """What ``models/WD14`` and ``models/torch_deepdanbooru`` hold, by name.

    An ONNX file named ``model.onnx`` is called after its folder, another after itself; of two with one name the first
    is listed.
    """
    found: dict[str, TaggerFiles] = {}
    for files in onnx_taggers(services):
        path = files.weights
        found.setdefault(path.parent.name if path.stem == "model" else path.stem, files)
    for files in torch_taggers(services):
        found.setdefault(TORCH_NAME, files)
    return found


def require_tagger(services: Services, name: str) -> TaggerFiles:
    """The tagger of this name, or of the published one that it stands for, regardless of case.

    :raises NotConfigured: the name is that of a published tagger whose files are missing; they are named.
    :raises NotFound: the name is not known.
    """
    installed = taggers(services)
    folded = {known.lower(): files for known, files in reversed(installed.items())}
    published = PUBLISHED.get(name.lower())
    files = installed.get(name) or folded.get(name.lower()) or folded.get(published or "")
    if files is not None:
        return files
    if published is not None:
        raise NotConfigured(
            f"tagger {name!r} has no weights: model.onnx and selected_tags.csv are missing in "
            f"{services.paths.models('WD14')[0] / published}",
            hint=f"put both files of {published} there; nothing is downloaded by itself",
        )
    folder = services.paths.models(ONNX_KIND)[0]
    known = "known: " + ", ".join(installed) if installed else f"there is no tagger in {folder}"
    raise NotFound("Model not found", hint=near_matches(name, installed) or known)
