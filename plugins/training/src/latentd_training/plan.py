"""From a request's fields to a training that is checked and ready: every 4xx is raised here, before the queue."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.api import (
    Conflict,
    InvalidRequest,
    JsonValue,
    LatentdError,
    NotFound,
    Services,
    check_generation,
    check_pixels,
    check_size,
    near_matches,
)
from latentd_training.captions import Prompter
from latentd_training.dataset import CELL, DataOptions, picture_files
from latentd_training.folders import existing_folder, folder_inside
from latentd_training.learning_rate import parse_schedule
from latentd_training.logs import LOG_PARTS, run_folder
from latentd_training.previews import PreviewOptions
from latentd_training.schemas import PreviewFields, TrainEmbedding, TrainFields, TrainHypernetwork, TrainLora
from latentd_training.settings import OPTIMIZERS, LoopOptions
from latentd_training.storage import clean_name
from latentd_training.templates import NAME, read_template

if TYPE_CHECKING:
    from latentd.api import GenerationRequest, TrainableModel
    from latentd_training.learner import Learner


LONGEST_EPOCH = 1_000_000
"""Pictures, repeats counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """One training: what, from which pictures, how long, and what is left along the way.

    ``open`` reads or makes what is trained, on the worker. ``noun`` is embedding, hypernetwork or lora. Every
    ``save_every`` steps it is saved below ``log_folder``, and drawn every ``preview_every``; 0 for never.
    ``hide_in_picture``: a preview carries the last save. ``notes`` go into the log of settings.
    """

    noun: str
    name: str
    open: Callable[[TrainableModel], Learner]
    prompter: Prompter
    data: DataOptions
    loop: LoopOptions
    log_folder: Path
    save_every: int
    preview: PreviewOptions
    preview_every: int
    checkpoint: str
    hide_in_picture: bool = False
    optimizer: str = "AdamW"
    optimizer_settings: Mapping[str, JsonValue] = field(default_factory=dict)
    notes: Mapping[str, JsonValue] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def meta(self) -> dict[str, JsonValue]:
        """What the job's document shows."""
        size = {"width": self.data.width, "height": self.data.height}
        return {"name": self.name, "steps": self.loop.steps, "batch_size": self.loop.batch_size, **size}


def plan_embedding(body: TrainEmbedding, services: Services) -> TrainingPlan:
    """The training of an embedding.

    :raises LatentdError: a field is impossible; it is named.
    """
    path = embedding_path(services, body.embedding_name)

    def read(model: TrainableModel) -> Learner:
        from latentd_training.embedding import EmbeddingLearner

        return EmbeddingLearner.read(body.embedding_name, path, model)

    plan = _plan(
        body,
        services,
        noun="embedding",
        name=body.embedding_name,
        open=read,
        learn_rate=body.learn_rate,
        save_every=body.save_embedding_every,
    )
    lines = [line for line in plan.prompter.lines if NAME in line]
    if not lines:
        raise InvalidRequest(
            f"template_filename: {body.template_filename} has no line with {NAME}, so that nothing would be learnt"
        )
    left_out = len(plan.prompter.lines) - len(lines)
    said = (f"{body.template_filename}: {left_out} lines without {NAME} are left out",) if left_out else ()
    return replace(
        plan,
        prompter=replace(plan.prompter, lines=lines),
        hide_in_picture=body.save_image_with_stored_embedding,
        warnings=(*plan.warnings, *said),
    )


def plan_hypernetwork(body: TrainHypernetwork, services: Services) -> TrainingPlan:
    """The training of a hypernetwork.

    :raises LatentdError: a field is impossible; it is named.
    """
    known = services.hypernetworks
    name = body.hypernetwork_name
    # The first versions' lists had the file's hash behind the name.
    path = known.get(name) or known.get(name.rpartition("(")[0])
    if path is None:
        raise NotFound(
            f"hypernetwork_name: {name!r} not found", hint=near_matches(name, known) or "see /sdapi/v1/hypernetworks"
        )

    def read(model: TrainableModel) -> Learner:
        from latentd_training.hypernetwork import HypernetworkLearner

        return HypernetworkLearner.read(path.stem, path, model)

    return _plan(
        body,
        services,
        noun="hypernetwork",
        name=path.stem,
        open=read,
        learn_rate=body.learn_rate,
        save_every=body.save_hypernetwork_every,
    )


def plan_lora(body: TrainLora, services: Services) -> TrainingPlan:
    """The training of a LoRA.

    :raises LatentdError: a field is impossible; it is named. :raises Conflict: a file of that name is there.
    """
    name = clean_name(body.name)
    path = services.paths.models("Lora")[0] / f"{name}.safetensors"
    _check_target(body, path)
    if body.optimizer not in OPTIMIZERS:
        raise InvalidRequest(f"optimizer: {body.optimizer!r} is not one of {', '.join(OPTIMIZERS)}")
    plan = _plan(
        body,
        services,
        noun="lora",
        name=name,
        open=lambda model: _open_lora(body, plan, path, model),
        learn_rate=body.learn_rate,
        save_every=body.save_every,
        checkpoint=body.checkpoint,
    )
    settings = {} if body.weight_decay is None else {"weight_decay": body.weight_decay}
    return replace(plan, optimizer=body.optimizer, optimizer_settings=settings)


def _check_target(body: TrainLora, path: Path) -> None:
    """:raises Conflict: a file is there that is not to be replaced. :raises NotFound: there is none to go on from."""
    if path.exists() and not (body.resume or body.overwrite_old):
        raise Conflict(f"name: file {path.name} already exists", hint="send resume to go on from it, or overwrite_old")
    if body.resume and not path.exists():
        raise NotFound(f"name: there is no {path.name} to go on from", hint="leave resume out")


def _open_lora(body: TrainLora, plan: TrainingPlan, path: Path, model: TrainableModel) -> Learner:
    from latentd_training.lora import LoraLearner, LoraOptions

    _check_target(body, path)  # a training that was before this one in the queue may have made or lost it
    size = f"({body.training_width}, {body.training_height})"
    options = LoraOptions(
        rank=body.rank,
        alpha=body.rank if body.alpha is None else body.alpha,
        targets=frozenset(body.targets),
        text=body.train_text_encoder,
        dropout=body.dropout,
        text_rate_factor=body.text_learn_rate_factor,
        precision=body.save_precision,
        notes={
            "ss_learning_rate": body.learn_rate,
            "ss_max_train_steps": str(body.steps),
            "ss_batch_size_per_device": str(body.batch_size),
            "ss_gradient_accumulation_steps": str(body.gradient_step),
            "ss_resolution": size,
            "ss_seed": str(plan.loop.seed),
            "ss_optimizer": body.optimizer,
        },
    )
    learner = LoraLearner(plan.name, path, model, options, plan.loop.seed)
    if body.resume:
        learner.load()
    return learner


def embedding_path(services: Services, name: str) -> Path:
    """The file of the embedding ``name``, which a training writes as well.

    :raises NotFound: there is none. :raises InvalidRequest: it is a file of a kind that is not written, or a package's.
    """
    known = services.embeddings.all()
    if name not in known:
        raise NotFound(
            f"embedding_name: {name!r} not found", hint=near_matches(name, known) or "POST /sdapi/v1/create/embedding"
        )
    path, parts = Path(known[name].filename), known[name].shapes
    endings = (".pt", ".safetensors") if len(parts) == 1 else (".safetensors",)
    inside = any(path.resolve().is_relative_to(folder.resolve()) for folder in services.paths.models("embeddings"))
    if path.suffix.lower() not in endings or not inside:
        where = f"a file that ends in {path.suffix}" if inside else "a file that a package carries"
        raise InvalidRequest(
            f"embedding_name: {name!r} is {where}, which trainings do not write",
            hint=f"create an embedding of your own: trainings write {' and '.join(endings)}",
        )
    return path


def _plan(
    body: TrainFields,
    services: Services,
    *,
    noun: str,
    name: str,
    open: Callable[[TrainableModel], Learner],
    learn_rate: str,
    save_every: int,
    checkpoint: str | None = None,
) -> TrainingPlan:
    seed = secrets.randbelow(2**31) if body.seed == -1 else body.seed
    repeats = int(services.options.snapshot()["training_image_repeats_per_epoch"])
    loop = _loop(body, learn_rate, seed, repeats)
    data = _data(body, services, repeats)
    title = _title(services, checkpoint)
    preview = preview_options(body, services, seed, data)
    if body.create_image_every:
        _check_preview(preview.request("preview", title), services)
    warnings = body.unknown_warnings
    if loop.rate.end < body.steps:
        warnings.append(f"learn_rate: it ends after {loop.rate.end:g} of {body.steps} steps, and the training with it")
    return TrainingPlan(
        noun=noun,
        name=name,
        open=open,
        prompter=Prompter(
            lines=read_template(services, body.template_filename),
            name=name,
            shuffle=body.shuffle_tags,
            drop_out=body.tag_drop_out,
        ),
        data=data,
        loop=loop,
        log_folder=_log_folder(services, body.log_directory, name),
        save_every=save_every,
        preview=preview,
        preview_every=body.create_image_every,
        checkpoint=title,
        notes={**body.model_dump(), "seed": seed, "model_name": title},
        warnings=tuple(warnings),
    )


def _check_preview(request: GenerationRequest, services: Services) -> None:
    """:raises LatentdError: it cannot be drawn; its fields are those that begin with ``preview_``."""
    try:
        check_generation(request, services)
    except LatentdError as error:
        error.detail = f"preview_...: {error.detail}"
        raise


def _loop(body: TrainFields, learn_rate: str, seed: int, repeats: int) -> LoopOptions:
    clips = body.clip_grad_mode != "disabled"
    return LoopOptions(
        steps=body.steps,
        rate=parse_schedule(learn_rate, "learn_rate"),
        batch_size=body.batch_size,
        gradient_step=body.gradient_step,
        repeats=repeats,
        clip_mode=body.clip_grad_mode,
        clip=parse_schedule(body.clip_grad_value, "clip_grad_value") if clips else None,
        seed=seed,
        validate_every=body.validate_every,
    )


def _log_folder(services: Services, text: str, name: str) -> Path:
    """The folder of a run that begins now; neither it nor a folder inside it is a link out."""
    folder = run_folder(folder_inside(services, text, "log_directory"), name)
    for part in ("", *LOG_PARTS):
        folder_inside(services, str(folder / part), "log_directory")
    if not next(one for one in (folder, *folder.parents) if one.exists()).is_dir():
        raise InvalidRequest(f"log_directory: {text!r} is no folder")
    return folder


def _data(body: TrainFields, services: Services, repeats: int) -> DataOptions:
    for name in ("training_width", "training_height"):
        if not body.varsize and getattr(body, name) % CELL:
            raise InvalidRequest(f"{name}: {getattr(body, name)} is no multiple of {CELL}")
    check_size(body.training_width, body.training_height, services.settings)
    folder = existing_folder(services, body.data_root, "data_root")
    count = len(picture_files(folder)) * repeats
    if not count:
        raise InvalidRequest(f"data_root: No images have been found in the dataset: {body.data_root!r}")
    if count > LONGEST_EPOCH:
        raise InvalidRequest(
            f"an epoch of {count} pictures is too long",
            hint="option training_image_repeats_per_epoch repeats each picture",
        )
    batch_size = min(body.batch_size, count)
    if not body.varsize:
        area = batch_size * body.training_width * body.training_height
        check_pixels(area, area, services.settings)
    return DataOptions(
        folder=folder,
        batch_size=batch_size,
        width=body.training_width,
        height=body.training_height,
        keep_sizes=body.varsize,
        sampling=body.latent_sampling_method,
        use_alpha=body.use_weight,
    )


def _title(services: Services, checkpoint: str | None) -> str:
    if checkpoint is None:
        return services.models.current.title
    info = services.models.find(checkpoint)
    if info is None:
        raise NotFound(f"checkpoint: {checkpoint!r} not found", hint="see /sdapi/v1/sd-models")
    return info.title


def preview_options(body: PreviewFields, services: Services, seed: int, data: DataOptions) -> PreviewOptions:
    """How previews are drawn; early 2023's place in the list of samplers is followed.

    :raises NotFound: there is no such sampler.
    """
    sampler: str = body.preview_sampler_name
    place = body.preview_sampler_index
    if place is not None and "preview_sampler_name" not in body.model_fields_set:
        names = [spec.name for spec in services.registry.samplers.values()]
        sampler = names[place] if isinstance(place, int) and 0 <= place < len(names) else str(place)
    return PreviewOptions(
        own_prompt=body.preview_from_txt2img,
        prompt=body.preview_prompt,
        negative_prompt=body.preview_negative_prompt,
        steps=body.preview_steps,
        sampler=sampler,
        cfg_scale=body.preview_cfg_scale,
        seed=seed if body.preview_seed == -1 else body.preview_seed,
        width=body.preview_width,
        height=body.preview_height,
        training_size=(data.width, data.height),
    )
