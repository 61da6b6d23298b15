"""Embeddings inside network files, which prompts can use while the network's tag is in the prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from latentd.conditioning.embeddings import Embedding, embedding_vectors
from latentd.networks.merge import AppliedNetwork

if TYPE_CHECKING:
    from latentd.models.loaded import LoadedModel
    from latentd.pipeline.generation import RunningGeneration


def read_bundles(model: LoadedModel, applied: Iterable[AppliedNetwork]) -> None:
    """Set the bundled embeddings of ``model`` to those of its networks; of equal names the last network's counts.

    For an entry that is not an embedding, a sentence that says so is kept instead.
    """
    model.bundled = {
        name: _read(network, name, data) for network in applied for name, data in network.embeddings.items()
    }


def bundled(model: LoadedModel) -> dict[str, Embedding]:
    """The embeddings inside the networks that are applied to ``model``, by name."""
    return {name: value for name, value in model.bundled.items() if isinstance(value, Embedding)}


def bundle_of(gen: RunningGeneration, applied: AppliedNetwork) -> tuple[list[str], list[str]]:
    """Names of the embeddings of one network that have an effect on the model in use, and why others have none.

    A file of the same name in the folder of embeddings takes precedence, as in AUTOMATIC1111.
    """
    width = sum(encoder.architecture.width for encoder in gen.model.text_encoders)
    files = gen.services.embeddings.usable(width)[0]
    acting, problems = [], []
    for name in applied.embeddings:
        value = gen.model.bundled[name]
        origin = f"embedding {name!r} of LoRA {applied.network.name!r}"
        if not isinstance(value, Embedding):
            problems.append(f"{origin} is left out: {value}")
        elif value.width != width:
            problems.append(f"{origin} is left out: it has width {value.width}, the model's text encoders {width}")
        elif name in files:
            problems.append(f"{origin} is left out: the folder of embeddings has one of this name")
        else:
            acting.append(name)
    return acting, problems


def _read(network: AppliedNetwork, name: str, data: Mapping[str, object]) -> Embedding | str:
    try:
        vectors = embedding_vectors(data)
    except ValueError as error:
        return str(error)
    shapes = {part: (len(value), value.shape[1]) for part, value in vectors.items()}
    return Embedding(name=name, filename=f"{network.network.path}/{name}", shapes=shapes, read=lambda: vectors)
