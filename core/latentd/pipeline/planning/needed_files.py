"""Which model files a plan reads, for machines that have folders of their own. No torch is imported here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.executors import NeededFile
from latentd.models.files.checkpoints import hashed_file
from latentd.pipeline.job_hooks import script_place
from latentd.plugins.blame import blamed, owner_of
from latentd.prompts.networks import extract_networks

if TYPE_CHECKING:
    from latentd.generations import Plan
    from latentd.pipeline.needs import WorkerServices

Hash = Callable[[Path], str | None]
_LORA, _HYPERNETWORK = ("lora", "lyco"), ("hypernet",)


def files_of_plan(plan: Plan, services: WorkerServices, sha256: Hash) -> list[NeededFile]:
    """The models that ``plan`` and its scripts name, from the folders of models alone.

    :param sha256: the hash of a file, None with ``--no-hashing``; a large file is read for it once.
    """
    titles = [plan.checkpoint]
    titles += [plan.refiner.checkpoint] if plan.refiner is not None else []
    titles += [plan.hires.checkpoint] if plan.hires is not None and plan.hires.checkpoint else []
    vae, overrides = plan.options["sd_vae"], bool(plan.options["sd_vae_overrides_per_model_preferences"])
    prompts = [*plan.prompts, *plan.negative_prompts]
    prompts += [*plan.hires.prompts, *plan.hires.negative_prompts] if plan.hires is not None else []
    found = [*_of_models(titles, str(vae), services, overrides=overrides), *_of_prompts(prompts, services)]
    found += [*_of_upscalers(plan, services), *_of_scripts(plan, services)]
    return _described(found, services, sha256)


def files_of_selection(services: WorkerServices, sha256: Hash) -> list[NeededFile]:
    """The selected checkpoint, and the VAE that goes with it.

    :raises NotFound: there is no checkpoint, or the VAE that the options name does not exist.
    """
    options = services.options
    title, overrides = services.models.current.title, bool(options["sd_vae_overrides_per_model_preferences"])
    return _described(_of_models([title], str(options["sd_vae"]), services, overrides=overrides), services, sha256)


def _of_models(titles: Sequence[str], vae: str, services: WorkerServices, *, overrides: bool) -> Iterator[Path]:
    for title in titles:
        info = services.models.checkpoints.require(title)
        services.models.checkpoints.ensure_hash(info)
        yield Path(info.filename)
        if (chosen := services.models.vaes.resolve(info, vae, overrides=overrides)) is not None:
            yield Path(chosen.filename)


def _of_prompts(prompts: Sequence[str], services: WorkerServices) -> Iterator[Path]:
    for prompt in dict.fromkeys(prompts):
        text, tags = extract_networks(prompt)
        for tag in tags:
            name = tag.positional[0] if tag.positional else ""
            if tag.name in _LORA and (network := services.networks.find(name)) is not None:
                yield network.path
            if tag.name in _HYPERNETWORK and (path := services.hypernetworks.get(name)) is not None:
                yield path
        for embedding in services.embeddings.all().values():
            if re.search(rf"(?<!\w){re.escape(embedding.name)}(?!\w)", text, re.IGNORECASE):
                yield Path(embedding.filename)


def _of_upscalers(plan: Plan, services: WorkerServices) -> Iterator[Path]:
    names = [plan.hires.upscaler if plan.hires is not None else None]
    names += [str(plan.options["upscaler_for_img2img"])] if plan.is_img2img else []
    for name in filter(None, names):
        spec = services.registry.upscalers.find(name)
        if spec is not None and spec.model_path:
            yield Path(spec.model_path)


def _of_scripts(plan: Plan, services: WorkerServices) -> Iterator[Path]:
    calls = [(call.script, call.args) for call in plan.alwayson]
    calls += [(plan.script, plan.script_args)] if plan.script is not None else []
    for script, args in calls:
        with blamed(owner_of(services.registry.scripts, script.title), script_place(script, "model_files")):
            yield from script.model_files(services, plan, args)


def _described(found: Iterable[Path], services: WorkerServices, sha256: Hash) -> list[NeededFile]:
    files: dict[Path, NeededFile] = {}
    for path in found:
        place = services.paths.model_place(path)
        if path in files or place is None or not path.exists():  # what packages bring is everywhere
            continue
        file = hashed_file(path)
        size, digest = file.stat().st_size, sha256(file)
        files[path] = NeededFile(kind=place[0], name=place[1], path=path, size=size, sha256=digest)
    return list(files.values())
