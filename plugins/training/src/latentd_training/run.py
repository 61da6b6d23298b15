"""A training as a job on the worker: from its plan to its file."""

from __future__ import annotations

import html
import logging
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import torch

from latentd.api import (
    GeneratedImage,
    Interrupted,
    InvalidRequest,
    JobControl,
    JsonValue,
    LatentdError,
    Services,
    TrainableModel,
    hide_embedding,
    is_regular,
    load_pickle,
    picture_bytes,
    read_regular,
    trainable_model,
)
from latentd_training.dataset import DataSet, load_examples
from latentd_training.embedding import MAX_STORED
from latentd_training.learner import Learner, MadeWith
from latentd_training.logs import TrainingLog
from latentd_training.loop import Trainer, make_optimizer
from latentd_training.plan import TrainingPlan
from latentd_training.previews import captioned, draw_preview
from latentd_training.settings import OPTIMIZERS, Progress
from latentd_training.storage import read_state, restore_optimizer, write_file, write_state

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

TABLES = {"embedding": "textual_inversion_loss.csv"}
MAX_FILE = 1 << 32
"""Bytes of a file in training."""
BEYOND = "Model has already been trained beyond specified max steps"
NOTHING = "<none>"


def run_training(plan: TrainingPlan, services: Services, control: JobControl) -> dict[str, JsonValue]:
    """Carry ``plan`` out; what came of it, JSON-ready.

    :raises LatentdError: it failed; what was saved before is whole. :raises Interrupted: it was cancelled.
    """
    for message in plan.warnings:
        control.warn(message)
    control.progress.textinfo = f"Initializing {plan.noun} training..."
    with trainable_model(services, plan.checkpoint) as model:
        learner = plan.open(model)
        if learner.step >= plan.loop.steps:
            control.progress.textinfo = BEYOND
            control.warn(f"{BEYOND}: {learner.step} of {plan.loop.steps} steps are done")
            return _result(learner, Progress(learner.step), plan, control)
        control.progress.job_count = plan.loop.steps - learner.step
        control.progress.textinfo = f"Preparing dataset from {html.escape(plan.data.folder.name)}..."
        generator = torch.Generator().manual_seed(Random(f"{plan.loop.seed}/latents").getrandbits(63))
        data = load_examples(plan.data, plan.prompter, model, services, control, generator)
        return _Run(plan, services, control, model, learner, data).carry_out()


def _result(learner: Learner, progress: Progress, plan: TrainingPlan, control: JobControl) -> dict[str, JsonValue]:
    known = progress.loss == progress.loss
    return {
        "filename": str(learner.path),
        "name": learner.name,
        "step": learner.step,
        "loss": progress.loss if known else None,
        "held_out_loss": {str(step): value for step, value in progress.held_out.items()},
        "seed": plan.loop.seed,
        "interrupted": progress.interrupted,
        "warnings": list(control.progress.warnings),
    }


class _Run:
    """One training with everything it needs."""

    def __init__(
        self,
        plan: TrainingPlan,
        services: Services,
        control: JobControl,
        model: TrainableModel,
        learner: Learner,
        data: DataSet,
    ) -> None:
        self._plan, self._services, self._control = plan, services, control
        self._model, self._learner = model, learner
        self._options = services.options.snapshot()
        self._optimizer, self._optimizer_name = self._make_optimizer()
        self._trainer = Trainer(learner, model, data, plan.prompter, plan.loop, self._optimizer)
        table = TABLES.get(plan.noun, f"{plan.noun}_loss.csv")
        self._log = TrainingLog(plan.log_folder, table, self._options, control)
        self._pictures = len(data.examples)
        self._first = learner.step
        self._last_file: Path | None = None
        self._last_picture = NOTHING
        self._hidden = True

    def carry_out(self) -> dict[str, JsonValue]:
        """Train, and write the file."""
        plan, trainer = self._plan, self._trainer
        if trainer.batch_size < plan.loop.batch_size:
            self._control.warn(f"batch_size: {trainer.batch_size}, since there are no more pictures")
        self._log.start({**plan.notes, "num_of_dataset_images": self._pictures, "initial_step": self._first})
        if self._options["unload_models_when_training"]:
            self._model.unload("vae")
            if trainer.texts_stay:
                trainer.encode_all()
                self._model.unload("text")
        try:
            progress = trainer.run(self._control, self._after_step)
        finally:
            self._log.close()
        self._save(self._learner.path, self._learner.name)
        self._services.refresh_networks()
        return _result(self._learner, progress, plan, self._control)

    def _make_optimizer(self) -> tuple[torch.optim.Optimizer, str]:
        """The optimiser with the state that belongs to the file, if there is one."""
        learner, plan = self._learner, self._plan
        # What begins anew has no state to go on with, though a file of its name may be there.
        data = read_regular(learner.path, MAX_FILE) if learner.step and is_regular(learner.path) else b""
        state = read_state(learner.path, learner.checksum(data)) if data else None
        name = (state.name if state is not None else "") or plan.optimizer
        if name not in OPTIMIZERS:
            self._control.warn(f"the optimiser {name!r} of {learner.path.name} is not offered; AdamW begins anew")
            name, state = "AdamW", None
        settings = plan.optimizer_settings if name == plan.optimizer else {}
        optimizer = make_optimizer(name, learner.groups(), plan.loop.rate.parts[0][0], **settings)
        if state is not None:
            restore_optimizer(optimizer, state, learner.path)
        return optimizer, name

    # --- along the way -----------------------------------------------------------------------------------------------

    def _after_step(self, progress: Progress) -> None:
        plan = self._plan
        state = self._control.progress
        state.job_no = progress.step - self._first
        if plan.save_every and progress.step % plan.save_every == 0:
            name = f"{plan.name}-{progress.step}"
            self._last_file = plan.log_folder / f"{plan.noun}s" / f"{name}{self._learner.path.suffix}"
            self._save(self._last_file, name)
            self._hidden = False
        self._log.step(progress)
        if plan.preview_every and progress.step % plan.preview_every == 0:
            self._draw(progress)
        last = NOTHING if self._last_file is None else self._last_file.name
        state.textinfo = (
            f"\n<p>\nLoss: {progress.loss:.7f}<br/>\nStep: {progress.step}<br/>\n"
            f"Last prompt: {html.escape(progress.prompt)}<br/>\nLast saved {plan.noun}: {html.escape(last)}<br/>\n"
            f"Last saved image: {html.escape(self._last_picture)}<br/>\n</p>\n"
        )

    def _save(self, path: Path, name: str) -> None:
        learner = self._learner
        if not all(bool(tensor.isfinite().all()) for tensor in learner.tensors().values()):
            raise InvalidRequest(
                f"{learner.name} holds what is no number at step {learner.step}",
                hint="a lower learn_rate or clip_grad_mode helps; what was saved before is whole",
            )
        data = learner.file(MadeWith.of(self._model, learner.step), name)
        write_file(path, data)
        if self._options["save_optimizer_state"]:
            write_state(path, self._optimizer, name=self._optimizer_name, checksum=learner.checksum(data))

    def _draw(self, progress: Progress) -> None:
        plan, name = self._plan, f"{self._plan.name}-{progress.step}"
        picture = self._preview(progress)
        if self._options["unload_models_when_training"]:
            self._model.unload("vae")
            if self._trainer.texts_stay:
                self._model.unload("text")
        if picture is None:
            return
        self._log.picture(picture.image, progress.step)
        format = str(self._options["samples_format"])
        path = plan.log_folder / "images" / f"{name}.{format.lower()}"
        write_file(path, picture_bytes(picture.image, format=format, info=dict(picture.info)))
        self._last_picture = f"{path.name}, prompt: {progress.prompt}"
        if plan.hide_in_picture and not self._hidden and self._last_file is not None:
            self._hidden = True
            self._hide(self._last_file, picture.image, plan.log_folder / "image_embeddings" / f"{name}.png")

    def _preview(self, progress: Progress) -> GeneratedImage | None:
        """A picture of what is learnt so far; None where there is none. A failure costs the picture, not the training.

        :raises Interrupted: the job was stopped.
        """
        given = (self._plan.preview, progress.prompt, self._learner, self._model, self._services, self._control)
        try:
            return draw_preview(*given)
        except Interrupted:
            raise
        except LatentdError as error:
            self._control.warn(f"a preview could not be drawn: {error.detail}")
            return None

    def _hide(self, file: Path, image: Image, path: Path) -> None:
        """Write the picture with the embedding that ``file`` holds in it."""
        if file.suffix != ".pt":
            self._control.warn("save_image_with_stored_embedding: pictures carry embeddings of .pt files only")
            return
        data = load_pickle(file, max_bytes=MAX_STORED)
        vectors = next(iter(data["string_to_param"].values()))
        info = self._model.model.info
        footers: Sequence[str] = (
            info.model_name[:24],
            f"[{info.hash or ''}]",
            f"{vectors.shape[0]}v {self._learner.step}s",
        )
        shown, texts = hide_embedding(captioned(image, f"<{data['name']}>", footers), data)
        write_file(path, picture_bytes(shown, format="png", info=texts))
