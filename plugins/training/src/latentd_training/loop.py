"""The training itself: noise, the model's guess at it, and a step of the optimiser. One loop for whatever is trained.

Source: Ho et al., "Denoising diffusion probabilistic models" (2020); Salimans & Ho (2022) for v.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from latentd.api import EncodedTexts, Interrupted, InvalidRequest, JobControl, JsonValue, TrainableModel, UNetHook
from latentd_training.captions import Prompter
from latentd_training.dataset import DataSet, Example
from latentd_training.learner import Learner, ParameterGroup
from latentd_training.settings import OPTIMIZERS, LoopOptions, Progress

if TYPE_CHECKING:
    from torch import Generator, Tensor

_HELD_OUT = "held out"


class Trainer:
    """One run over one data set. On the worker.

    :param after_step: called after each step of the optimiser, for saving, pictures and logs.
    """

    def __init__(
        self,
        learner: Learner,
        model: TrainableModel,
        data: DataSet,
        prompter: Prompter,
        options: LoopOptions,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.learner = learner
        self.model = model
        self.data = data
        self.options = options
        self.optimizer = optimizer
        self.progress = Progress(learner.step)
        self.batch_size = min(options.batch_size, len(data.examples) * options.repeats)
        self._prompter = prompter
        self._alphas = model.model.alphas_cumprod()
        self._scaler = torch.amp.GradScaler(model.device.type, enabled=model.dtype == torch.float16)
        self._encoded: dict[tuple[str, tuple[int, int]], EncodedTexts] = {}
        self._batches = _Batches(data, self.batch_size, options)
        self.progress.epoch_length = max(1, len(self._batches) // options.gradient_step)

    def run(self, control: JobControl, after_step: Callable[[Progress], None]) -> Progress:
        """Train until the steps are done, the rate's schedule has ended, or somebody interrupts.

        :raises Interrupted: the job was cancelled. :raises InvalidRequest: the loss is no number any more.
        """
        options, progress, learner = self.options, self.progress, self.learner
        learner.set_training(True)
        with learner.acting(self.model) as hooks:
            self._validate(hooks, control)
            while learner.step < options.steps and (rate := options.rate.at(learner.step)) is not None:
                if _stop(control):
                    progress.interrupted = True
                    break
                loss = self.step(rate, hooks, lambda: _stop(control))
                if loss is None:
                    progress.interrupted = True
                    break
                progress.rate, progress.loss = rate, loss
                learner.step += 1
                progress.step = learner.step
                if options.validate_every and learner.step % options.validate_every == 0:
                    self._validate(hooks, control)
                after_step(progress)
            if learner.step not in progress.held_out and not progress.interrupted:
                self._validate(hooks, control)
        return progress

    # --- one step ----------------------------------------------------------------------------------------------------

    def step(self, rate: float, hooks: Sequence[UNetHook], stop: Callable[[], bool] = lambda: False) -> float | None:
        """One step of the optimiser at ``rate``, within the learner's ``acting``; the loss before it.

        :param stop: asked between the step's batches; once it is true the step is not made, and there is no loss.
        :raises InvalidRequest: the loss is no number any more.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate_factor", 1.0)
        total = 0.0
        for part in range(self.options.gradient_step):
            if part and stop():
                self.optimizer.zero_grad(set_to_none=True)
                return None
            loss = self._batch_loss(self.learner.step * self.options.gradient_step + part, hooks)
            torch.autograd.backward(self._scaler.scale(loss / self.options.gradient_step))
            total += float(loss.detach()) / self.options.gradient_step
        if not math.isfinite(total):
            raise InvalidRequest(
                f"the loss is no number any more at step {self.learner.step + 1}",
                hint="a lower learn_rate or clip_grad_mode helps; what was saved before is whole",
            )
        self._clip()
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def _clip(self) -> None:
        if self.options.clip is None or self.options.clip_mode == "disabled":
            return
        limit = self.options.clip.lasting(self.learner.step)
        self._scaler.unscale_(self.optimizer)
        parameters = list(self.learner.tensors().values())
        if self.options.clip_mode == "value":
            torch.nn.utils.clip_grad_value_(parameters, limit)
        else:
            torch.nn.utils.clip_grad_norm_(parameters, limit)

    def _batch_loss(self, number: int, hooks: Sequence[UNetHook]) -> Tensor:
        """The loss of batch ``number``, counted from the first step of the first run."""
        generator, random = _generators(self.options.seed, number)
        examples = [self.data.examples[index] for index in self._batches[number]]
        prompts = [self._prompter.prompt(example.caption, random) for example in examples]
        self.progress.prompt = prompts[0]
        latents = torch.stack([example.latent(generator) for example in examples])
        timesteps = torch.randint(0, len(self._alphas), (len(examples),), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        self.learner.seed_drop_out(random.getrandbits(63))
        return self._loss(examples, latents, noise, timesteps, self._texts(prompts, examples[0].size), hooks)

    def encode_all(self) -> None:
        """Encode every example's prompt beforehand, so that the text encoder is not needed afterwards.

        This is of use only if each example has one prompt that stays the same (:attr:`texts_stay`).
        """
        for example in self.data.examples:
            self._texts([self._prompter.prompt(example.caption, Random(0))], example.size)

    @property
    def texts_stay(self) -> bool:
        """Whether each example has one prompt, whose encoding stays as it is."""
        return not (self.learner.trains_text or self._prompter.varies)

    def _texts(self, prompts: Sequence[str], size: tuple[int, int]) -> EncodedTexts:
        if not self.texts_stay:
            with torch.set_grad_enabled(self.learner.trains_text and torch.is_grad_enabled()):
                return self.model.encode_texts(prompts, size=size)
        for prompt in prompts:
            if (prompt, size) not in self._encoded:
                with torch.no_grad():
                    self._encoded[prompt, size] = self.model.encode_texts([prompt], size=size)
        return _joined([self._encoded[prompt, size] for prompt in prompts])

    def _loss(
        self,
        examples: Sequence[Example],
        latents: Tensor,
        noise: Tensor,
        timesteps: Tensor,
        texts: EncodedTexts,
        hooks: Sequence[UNetHook],
    ) -> Tensor:
        """The mean squared error of what the model predicts, each cell by its example's weight."""
        alpha = self._alphas[timesteps].reshape(-1, 1, 1, 1)
        signal, spread = alpha.sqrt(), (1 - alpha).sqrt()
        noisy = signal * latents + spread * noise
        is_v = self.model.model.prediction_type == "v"
        target = signal * noise - spread * latents if is_v else noise
        device = self.model.device
        predicted = self.model.predict(noisy.to(device), timesteps.to(device), texts, hooks=hooks)
        loss = F.mse_loss(predicted, target.to(device), reduction="none")
        weights = [example.weight for example in examples]
        if weights[0] is not None:
            loss = loss * torch.stack([weight for weight in weights if weight is not None]).to(device)
        return loss.mean()

    # --- held-out noise ----------------------------------------------------------------------------------------------

    def _validate(self, hooks: Sequence[UNetHook], control: JobControl) -> None:
        """Note the mean loss on noise that is never trained on; nothing where the job is interrupted meanwhile.

        :raises Interrupted: the job was cancelled.
        """
        if not self.options.validate_every:
            return
        count = self.options.validation_size
        losses: list[float] = []
        self.learner.set_training(False)
        try:
            for number in range(count):
                if (stop := control.stop_requested()) == "cancel":
                    raise Interrupted("cancelled")
                if stop == "interrupt":
                    return
                losses.append(self._held_out_loss(number, hooks))
        finally:
            self.learner.set_training(True)
        self.progress.held_out[self.learner.step] = sum(losses) / count

    @torch.no_grad()
    def _held_out_loss(self, number: int, hooks: Sequence[UNetHook]) -> float:
        """The loss on draw ``number`` of the held-out noise: the same at every call, timesteps evenly spread."""
        generator, random = _generators(self.options.seed, number, _HELD_OUT)
        example = self.data.examples[number % len(self.data.examples)]
        prompt = self._prompter.prompt(example.caption, random)
        latents = example.latent(generator)[None]
        timestep = torch.tensor([int((number + 0.5) * len(self._alphas) / self.options.validation_size)])
        noise = torch.randn(latents.shape, generator=generator)
        texts = self._texts([prompt], example.size)
        return float(self._loss([example], latents, noise, timestep, texts, hooks))


class _Batches:
    """Batches by number, epoch after epoch; which examples are in one depends on the seed and its number alone."""

    def __init__(self, data: DataSet, size: int, options: LoopOptions) -> None:
        self._data, self._size, self._options = data, size, options
        self._epoch = -1
        self._found: list[list[int]] = []
        self._length = len(self._of(0))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> list[int]:
        return self._of(number // self._length)[number % self._length]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._of(0))

    def _of(self, epoch: int) -> list[list[int]]:
        if epoch != self._epoch:
            random = Random(f"{self._options.seed}/epoch {epoch}")
            self._found = self._data.batches(size=self._size, repeats=self._options.repeats, random=random)
            self._epoch = epoch
        return self._found


def _joined(texts: Sequence[EncodedTexts]) -> EncodedTexts:
    """Texts encoded one by one as one batch; shorter ones are filled up with their last vector, as A1111 does."""
    longest = max(one.context.shape[1] for one in texts)
    filled = [torch.cat([c, c[:, -1:].expand(-1, longest - c.shape[1], -1)], 1) for c in (t.context for t in texts)]
    vectors = [one.vector for one in texts if one.vector is not None]
    return EncodedTexts(torch.cat(filled), torch.cat(vectors) if vectors else None)


def make_optimizer(
    name: str, groups: Sequence[ParameterGroup], rate: float, **settings: JsonValue
) -> torch.optim.Optimizer:
    """The optimiser ``name`` of :data:`OPTIMIZERS` over ``groups``."""
    if name not in OPTIMIZERS:
        raise InvalidRequest(f"optimizer: {name!r} is not one of {', '.join(OPTIMIZERS)}")
    made: torch.optim.Optimizer = getattr(torch.optim, name)(list(groups), lr=rate, **settings)
    return made


def _generators(seed: int, number: int, purpose: str = "batch") -> tuple[Generator, Random]:
    """The sources of chance for one batch: they depend on nothing that went before."""
    random = Random(f"{seed}/{purpose} {number}")
    return torch.Generator().manual_seed(random.getrandbits(63)), random


def _stop(control: JobControl) -> bool:
    """Whether to end here with what there is; publishes the progress, and forgets a skip, which means nothing here.

    :raises Interrupted: the job was cancelled.
    """
    try:
        control.check()
    except Interrupted:
        if control.stop_requested() == "skip":
            return not control.begin_batch()
        if control.stop_requested() == "cancel":
            raise
        return True
    return False
