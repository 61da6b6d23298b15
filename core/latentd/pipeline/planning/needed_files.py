"""Which model files a plan reads, for machines that have folders of their own. No torch is imported here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.executors import NeededFile
from latentd.models.files.checkpoints import hashed_file
from latentd.prompts.networks import extract_networks

if TYPE_CHECKING:
    from latentd.generations import Plan
    from latentd.pipeline.needs import WorkerServices

Hash = Callable[[Path], str | None]
_LORA, _HYPERNETWORK = ("lora", "lyco"), ("hypernet",)


def files_of_plan(plan: Plan, services: WorkerServices, sha256: Hash) -> list[NeededFile]:
    """The checkpoints, VAEs, networks and embeddings that ``plan`` names, from the folders of models alone.

    What scripts and upscalers read beside them is not known here.

    :param sha256: the hash of a file, None with ``--no-hashing``; a large file is read for it once.
    """
    titles = [plan.checkpoint]
    titles += [plan.refiner.checkpoint] if plan.refiner is not None else []
    titles += [plan.hires.checkpoint] if plan.hires is not None and plan.hires.checkpoint else []
    vae, overrides = plan.options["sd_vae"], bool(plan.options["sd_vae_overrides_per_model_preferences"])
    prompts = [*plan.prompts, *plan.negative_prompts]
    prompts += [*plan.hires.prompts, *plan.hires.negative_prompts] if plan.hires is not None else []
    found = [*_of_models(titles, str(vae), services, overrides=overrides), *_of_prompts(prompts, services)]
    return _described(found, services, sha256)


def files_of_selection(services: WorkerServices, sha256: Hash) -> list[NeededFile]:
    """The selected checkpoint, and the VAE that goes with it.

    :raises NotFound: there is no checkpoint, or the VAE that the options name does not exist.
    """
    options = services.options
    title, overrides = services.models.current.title, bool(options["sd_vae_overrides_per_model_preferences"])
    return _described(_of_models([title], str(options["sd_vae"]), services, overrides=overrides), services, sha256)


def _of_models(
    titles: Sequence[str], vae: str, services: WorkerServices, *, overrides: bool
) -> Iterator[tuple[str, Path]]:
    for title in titles:
        info = services.models.checkpoints.require(title)
        services.models.checkpoints.ensure_hash(info)
        yield "Stable-diffusion", Path(info.filename)
        if (chosen := services.models.vaes.resolve(info, vae, overrides=overrides)) is not None:
            yield "VAE", Path(chosen.filename)


def _of_prompts(prompts: Sequence[str], services: WorkerServices) -> Iterator[tuple[str, Path]]:
    for prompt in dict.fromkeys(prompts):
        text, tags = extract_networks(prompt)
        for tag in tags:
            name = tag.positional[0] if tag.positional else ""
            if tag.name in _LORA and (network := services.networks.find(name)) is not None:
                yield "Lora", network.path
            if tag.name in _HYPERNETWORK and (path := services.hypernetworks.get(name)) is not None:
                yield "hypernetworks", path
        for embedding in services.embeddings.all().values():
            if re.search(rf"(?<!\w){re.escape(embedding.name)}(?!\w)", text, re.IGNORECASE):
                yield "embeddings", Path(embedding.filename)


def _described(found: Iterable[tuple[str, Path]], services: WorkerServices, sha256: Hash) -> list[NeededFile]:
    files: dict[Path, NeededFile] = {}
    for kind, path in found:
        if path in files or (place := _place(kind, path, services)) is None:
            continue
        file = hashed_file(path)
        size, digest = file.stat().st_size, sha256(file)
        files[path] = NeededFile(kind=place[0], name=place[1], path=path, size=size, sha256=digest)
    return list(files.values())


def _place(kind: str, path: Path, services: WorkerServices) -> tuple[str, str] | None:
    """The kind of folder that has ``path``, and its name there; None for a file of a package, which is everywhere."""
    for candidate in (kind, "Stable-diffusion"):  # VAEs may lie beside checkpoints
        for folder in services.paths.models(candidate):
            if path.is_relative_to(folder):
                return candidate, path.relative_to(folder).as_posix()
    return None
