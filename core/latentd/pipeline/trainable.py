"""A loaded checkpoint as a trainer sees it: weights that stay as they are, and gradients that flow through them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from latentd.conditioning.embeddings import Embedding, EmbeddingStore
from latentd.conditioning.encode import TextConditioner
from latentd.errors import InvalidRequest
from latentd.generations import UNetHook
from latentd.models.architecture import WeightStorage
from latentd.models.loaded import LoadedModel
from latentd.models.manager import ModelManager
from latentd.models.vae import distribution, encode
from latentd.networks.merge import NetworkState
from latentd.networks.names import network_layers
from latentd.pipeline.passes.conditioning import text_settings
from latentd.pipeline.passes.image_conditioning import blank_channels
from latentd.services import Services
from latentd.types import OptionValues, UNetCall

LayerPart = Literal["unet", "text"]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedTexts:
    """Texts as the UNet takes them: ``context`` [B,n,width], ``vector`` [B,k] of SDXL models, else None; float32."""

    context: Tensor
    vector: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class TrainableLayer:
    """A linear layer or convolution that a network may change.

    ``name`` is what network files of kohya's layout call it, ``path`` its place in diffusers' or transformers' module.
    """

    name: str
    part: LayerPart
    path: str
    module: nn.Module


class TrainableModel:
    """One checkpoint on loan for training, on the worker only; from :func:`trainable_model`.

    Nothing here changes a weight. What is trained acts through an embedding (:meth:`learn_embedding`), UNet hooks
    (:meth:`predict`) or forward hooks on the modules of :meth:`layers`, which their maker removes again.

    :ivar model: the :class:`latentd.models.loaded.LoadedModel`, to be read.
    """

    def __init__(self, model: LoadedModel, options: OptionValues, embeddings: EmbeddingStore) -> None:
        self.model = model
        self._options = options
        self._conditioner = TextConditioner(model, embeddings)
        self._indexes = self._conditioner.indexes_with({})
        self._blank: dict[tuple[int, ...], Tensor | None] = {}

    # --- facts -------------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the UNet computes."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the UNet's weights, in which it computes."""
        return self.model.dtype

    @property
    def text_parts(self) -> tuple[str, ...]:
        """The text encoders as embedding files name them: ``("",)`` for the only one, else ``("clip_l", "clip_g")``."""
        kinds = {"clip": "clip_l", "openclip": "clip_g"}
        encoders = self.model.text_encoders
        return tuple(kinds[e.architecture.kind] for e in encoders) if len(encoders) > 1 else ("",)

    @property
    def attention_widths(self) -> tuple[int, ...]:
        """The widths of the contexts that the UNet's attentions take, that of the text first."""
        sites = [site.width for site in self.model.unet_runner.attention_sites]
        return tuple(dict.fromkeys([self.model.context_width, *sorted(sites)]))

    def layers(self) -> list[TrainableLayer]:
        """Every linear layer and convolution of the UNet and the text encoders that files of networks may name."""
        found = network_layers(self.model.unet, self.model.text_encoders, as_ldm=self.model.is_sdxl)
        return [TrainableLayer(name, part, path, module) for name, part, path, module in found]

    def token_vectors(self, text: str) -> dict[str, Tensor]:
        """By text part the rows [n,width] of the tables of tokens for ``text``, float32 on the CPU."""
        return dict(zip(self.text_parts, self._conditioner.token_vectors(text), strict=True))

    # --- computing ---------------------------------------------------------------------------------------------------

    def learn_embedding(self, name: str, vectors: Mapping[str, Tensor]) -> None:
        """Have ``name`` in texts stand for ``vectors``, by text part [V,width]; gradients flow into them."""
        self._indexes = self._conditioner.indexes_with({name: Embedding.of(name, "", vectors)})

    def encode_texts(self, texts: Sequence[str], *, size: tuple[int, int]) -> EncodedTexts:
        """``texts`` under the options' clip skip and emphasis; under ``torch.no_grad`` if no gradients are wanted.

        :param size: width and height in pixels of the pictures that they go with, for SDXL.
        """
        encoded = self._conditioner.learn(texts, text_settings(self._options, size), self._indexes)
        vectors = [e.vector for e in encoded if e.vector is not None]
        context = torch.stack([e.context for e in encoded]).to(self.device)
        return EncodedTexts(context, torch.stack(vectors).to(self.device) if vectors else None)

    def latent_distribution(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation [1,4,h,w], scaled, of the latents of ``picture`` [3,H,W] in 0 to 1; float32."""
        found = distribution(self.model, picture)
        self.settle()
        return found

    def predict(
        self, noisy: Tensor, timesteps: Tensor, texts: EncodedTexts, *, hooks: Sequence[UNetHook] = ()
    ) -> Tensor:
        """The UNet's output [B,4,h,w], float32: the noise, or v where ``model.prediction_type`` is ``v``.

        :param noisy: latents [B,4,h,w] at the noise of ``timesteps`` [B].
        :param hooks: take part as they do in a generation.
        """
        count = noisy.shape[0]
        alphas = self.model.alphas_cumprod().to(self.device)[timesteps]
        call = UNetCall(
            sample=noisy,
            sigma=((1 - alphas) / alphas).sqrt(),
            timestep=timesteps,
            context=texts.context,
            added=texts.vector,
            is_cond=torch.ones(count, dtype=torch.bool),
            image_index=torch.arange(count),
            step=0,
            steps=1,
            call_index=0,
            pass_name="base",
            concat=self._blank_channels(noisy),
        )
        runner = self.model.unet_runner
        upcast = bool(self._options["upcast_attn"]) or self.model.policy.upcast_attention
        with runner.session(hooks, upcast_attention=upcast):
            return runner.evaluate(call, hooks)

    def _blank_channels(self, latents: Tensor) -> Tensor | None:
        """What inpainting and edit models take beside the latent: everything masked, or no picture."""
        shape = tuple(latents.shape)
        if shape not in self._blank:
            with torch.no_grad():
                self._blank[shape] = blank_channels(self.model, latents, partial(encode, self.model))
            self.settle()
        return self._blank[shape]

    # --- where the parts are -----------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Have the model as training needs it: no network laid over it, UNet and text encoders where they compute.

        Called at the start; call it again after a generation in between.
        """
        if isinstance(self.model.networks, NetworkState):
            self.model.networks.restore()
        if self.model.policy.offload == "parts":
            self.model.place("unet")
            self.model.place("text")

    def unload(self, part: Literal["vae", "text"]) -> None:
        """Send a part that is not needed for a while to main memory."""
        self.model.place(part, "cpu")

    def reload(self) -> None:
        """Have every part where it belongs: before a generation in between, and at the end."""
        for part in ("unet", "text", "vae"):
            self.model.place(part, self.model.policy.home_of(part))
        if isinstance(self.model.conditioning, TextConditioner):
            self.model.conditioning.clear()  # it was encoded with what was being trained


@contextmanager
def trainable_model(services: Services, checkpoint: str | None = None) -> Iterator[TrainableModel]:
    """The checkpoint (None: the selected one) for training, with the VAE of option ``sd_vae``; on the worker.

    Its weights are whole, never in eight bits. When the block is left the model is as it was before.

    :raises NotFound: no such checkpoint. :raises ModelLoadError: it cannot be loaded.
    :raises InvalidRequest: a refiner, which sees no prompts of its own. :raises TypeError: no server's services.
    """
    options, models, embeddings = services.options.snapshot(), services.models, services.embeddings
    if not isinstance(models, ModelManager) or not isinstance(embeddings, EmbeddingStore):
        raise TypeError("only a server's own models can be trained with")
    with models.lease(checkpoint, str(options["sd_vae"]), storage=WeightStorage()) as model:
        if model.family == "sdxl-refiner":
            raise InvalidRequest(
                f"{model.info.name} is a refiner", hint="train with a base model of SD 1, SD 2 or SDXL"
            )
        trainable = TrainableModel(model, options, embeddings)
        trainable.settle()
        try:
            yield trainable
        finally:
            trainable.reload()
