"""New embeddings and hypernetworks, as files."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from latentd.api import InvalidRequest, JobControl, Services, check_length, trainable_model
from latentd_training.embedding import embedding_file, file_ending, initial_vectors
from latentd_training.hypernetwork import HypernetworkLearner, Structure, usual_dropout
from latentd_training.learner import MadeWith
from latentd_training.schemas import CreateEmbedding, CreateHypernetwork
from latentd_training.storage import clean_name, write_file

MOST_BYTES = 1 << 30
"""Of a new hypernetwork's weights."""


class Exists(Exception):
    """A file of that name is there, and was not to be replaced; in AUTOMATIC1111's words."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"file {path} already exists")


def create_embedding(body: CreateEmbedding, services: Services, control: JobControl) -> Path:
    """Write a new embedding for the selected checkpoint; its file. On the worker.

    :raises Exists: there is one. :raises LatentdError: the name or the text is none; the disk is full.
    """
    name = clean_name(body.name)
    check_length([body.init_text], services.settings)
    folder = services.paths.models("embeddings")[0]
    with trainable_model(services) as model:
        vectors = initial_vectors(model, body.init_text, body.num_vectors_per_token)
    path = folder / f"{name}{file_ending(vectors)}"
    known = services.embeddings.all().get(name)
    if known is not None and Path(known.filename) != path:
        raise Exists(Path(known.filename))  # prompts would go on meaning that one
    if not body.overwrite_old and path.exists():
        raise Exists(path)
    write_file(path, embedding_file(vectors, MadeWith(0, None, None), name, path.suffix))
    services.refresh_networks()
    return path


def create_hypernetwork(body: CreateHypernetwork, services: Services, control: JobControl) -> Path:
    """Write a new hypernetwork; its file. On the worker.

    :raises Exists: there is one. :raises LatentdError: a field is impossible; the disk is full.
    """
    name = clean_name(body.name)
    path = services.paths.models("hypernetworks")[0] / f"{name}.pt"
    structure = structure_of(body)
    widths = list(dict.fromkeys(body.enable_sizes or ()))
    if not widths:
        with trainable_model(services) as model:
            widths = list(model.attention_widths)
    if not body.overwrite_old and path.exists():
        raise Exists(path)
    seed = secrets.randbelow(2**31) if body.seed == -1 else body.seed
    size = 4 * sum(structure.count(width) for width in widths) * 2
    if size > MOST_BYTES:
        raise InvalidRequest(
            f"layer_structure: the networks for enable_sizes {widths} take {size / 2**30:.1f} GiB; 1 is the most",
        )
    learner = HypernetworkLearner.create(name, path, structure, widths, seed)
    write_file(path, learner.file(MadeWith(0, None, None), name))
    services.refresh_networks()
    return path


def structure_of(body: CreateHypernetwork) -> Structure:
    """What the fields say of its networks.

    :raises InvalidRequest: it cannot be built; the field is named.
    """
    layers = _numbers(body.layer_structure, "layer_structure") or (1.0, 2.0, 1.0)
    given = _numbers(body.dropout_structure, "dropout_structure") if body.use_dropout else ()
    structure = Structure(
        layers=layers,
        activation=body.activation_func or None,
        initialisation=body.weight_init or "Normal",
        layer_norm=body.add_layer_norm,
        dropout=given or usual_dropout(layers, body.use_dropout, True),
    )
    structure.check()
    return structure


def _numbers(value: Sequence[float] | str | None, field: str) -> tuple[float, ...]:
    if not isinstance(value, str):
        return tuple(value or ())
    try:
        return tuple(float(part) for part in value.split(",") if value.strip())
    except ValueError:
        raise InvalidRequest(f"{field}: a list of numbers, or a text as 1, 2, 1") from None
