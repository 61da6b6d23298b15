"""Hypernetworks: for each context width two small networks that change what attention takes keys and values from.

The files' form is AUTOMATIC1111's, read and written with all that training needs: layers with drop-out, their settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from latentd.api import (
    Attend,
    AttentionHandler,
    AttentionSite,
    InvalidRequest,
    ModelLoadError,
    Services,
    TrainableModel,
    UNetCall,
    UNetHook,
    hypernetwork_activation,
    hypernetwork_activations,
    load_pickle,
)
from latentd_training.learner import MadeWith, ParameterGroup
from latentd_training.storage import pickled

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

MAX_BYTES = 4 << 30
MAX_WIDTH = 16_384
MAX_LAYERS = 32
MAX_FACTOR = 16.0
INITIALISATIONS = ("Normal", "XavierUniform", "XavierNormal", "KaimingUniform", "KaimingNormal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """How the networks of a hypernetwork are built. ``layers`` and ``dropout`` have one entry a width along the way.

    ``layers`` are multiples of the context width, 1 at both ends; ``dropout`` shares after each layer, 0 at both ends.
    """

    layers: tuple[float, ...] = (1, 2, 1)
    activation: str | None = None
    initialisation: str = "Normal"
    layer_norm: bool = False
    activate_output: bool = False
    dropout: tuple[float, ...] = (0, 0, 0)

    def check(self) -> None:
        """:raises InvalidRequest: it is none that can be built; names the field of ``create/hypernetwork``."""
        layers, dropout = self.layers, self.dropout
        if not 2 <= len(layers) <= MAX_LAYERS:
            raise InvalidRequest(f"layer_structure: 2 to {MAX_LAYERS} entries, as 1, 2, 1")
        if layers[0] != 1:
            raise InvalidRequest("layer_structure: Multiplier Sequence should start with size 1!")
        if layers[-1] != 1:
            raise InvalidRequest("layer_structure: Multiplier Sequence should end with size 1!")
        if not all(0 < factor <= MAX_FACTOR for factor in layers):
            raise InvalidRequest(f"layer_structure: entries are above 0 and at most {MAX_FACTOR:g}")
        if (self.activation or "none").lower() not in ("none", *hypernetwork_activations()):
            raise InvalidRequest(
                f"activation_func: hypernetwork uses an unsupported activation function: {self.activation}",
                hint=f"one of {', '.join(hypernetwork_activations())}",
            )
        if self.initialisation not in INITIALISATIONS:
            raise InvalidRequest(f"weight_init: {self.initialisation!r} is not one of {', '.join(INITIALISATIONS)}")
        if len(dropout) != len(layers) or dropout[0] != 0 or not all(0 <= share < 1 for share in dropout):
            raise InvalidRequest(
                "dropout_structure: as many entries as layer_structure, from 0, each from 0 to below 1"
            )

    def count(self, width: int) -> int:
        """About how many numbers one network for contexts of ``width`` has: those of its matrices."""
        sides = [int(width * factor) for factor in self.layers]
        return sum(before * after for before, after in pairwise(sides))

    def build(self, width: int, chance: Generator) -> nn.Sequential:
        """One network for contexts of ``width``, whose weights are not set yet; ``chance`` drives its drop-out."""
        from torch import nn

        from latentd_training.drop_out import DropOut

        modules: list[nn.Module] = []
        last = len(self.layers) - 2
        for index in range(last + 1):
            before, after = (int(width * factor) for factor in self.layers[index : index + 2])
            modules.append(nn.Linear(before, after))
            between = hypernetwork_activation(self.activation)
            if between is not None and (index < last or self.activate_output):
                modules.append(between)
            if self.layer_norm:
                modules.append(nn.LayerNorm(after))
            if self.dropout[index + 1] > 0:
                modules.append(DropOut(self.dropout[index + 1], chance))
        return nn.Sequential(*modules)

    def initialise(self, network: nn.Sequential, generator: Generator) -> None:
        """Set the weights of a network of :meth:`build`."""
        from torch import nn

        leaky: Literal["leaky_relu", "relu"] = (
            "leaky_relu" if (self.activation or "").lower() == "leakyrelu" else "relu"
        )
        for module in network:
            if not isinstance(module, nn.Linear | nn.LayerNorm):
                continue
            weight, init = module.weight, nn.init
            nn.init.zeros_(module.bias)
            if isinstance(module, nn.LayerNorm) or self.initialisation == "Normal":
                init.normal_(weight, 0.0, 0.01, generator=generator)
            elif self.initialisation == "XavierUniform":
                init.xavier_uniform_(weight, generator=generator)
            elif self.initialisation == "XavierNormal":
                init.xavier_normal_(weight, generator=generator)
            elif self.initialisation == "KaimingUniform":
                init.kaiming_uniform_(weight, nonlinearity=leaky, generator=generator)
            else:
                init.kaiming_normal_(weight, nonlinearity=leaky, generator=generator)


def usual_dropout(layers: Sequence[float], used: bool, last_layer: bool) -> tuple[float, ...]:
    """AUTOMATIC1111's shares where a file or request names none: 0.3 between the ends."""
    if not used:
        return (0.0,) * len(layers)
    return (0.0, *(0.3,) * max(0, len(layers) - 3), 0.3 if last_layer else 0.0, 0.0)[: len(layers)]


class HypernetworkLearner:
    """A hypernetwork in training. Implements :class:`latentd_training.learner.Learner`."""

    trains_text = False

    def __init__(
        self,
        name: str,
        path: Path,
        structure: Structure,
        networks: Mapping[int, tuple[nn.Sequential, nn.Sequential]],
        chance: Generator,
        *,
        step: int = 0,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.step = step
        self.structure = structure
        self._networks = dict(networks)
        self._chance = chance
        self._notes = dict(notes or {})

    @classmethod
    def create(
        cls, name: str, path: Path, structure: Structure, widths: Sequence[int], seed: int
    ) -> HypernetworkLearner:
        """A new one for contexts of ``widths``."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        networks = {width: (structure.build(width, generator), structure.build(width, generator)) for width in widths}
        with torch.no_grad():
            for pair in networks.values():
                for network in pair:
                    structure.initialise(network, generator)
        return cls(name, path, structure, networks, generator)

    @classmethod
    def read(cls, name: str, path: Path, model: TrainableModel | None = None) -> HypernetworkLearner:
        """The hypernetwork in the file ``path``, on the device of ``model``.

        :raises ModelLoadError: the file is damaged. :raises InvalidRequest: it fits nothing in ``model``.
        """
        import torch

        state = load_pickle(path, max_bytes=MAX_BYTES)
        structure = _structure_of(state, path)
        widths = [key for key in state if isinstance(key, int) and not isinstance(key, bool)]
        if model is not None and not set(widths) & set(model.attention_widths):
            raise InvalidRequest(
                f"hypernetwork_name: {name!r} fits nothing in {model.model.info.name}",
                hint=f"the model's attentions have widths {list(model.attention_widths)}, the file those for {widths}",
            )
        chance = torch.Generator("cpu" if model is None else model.device)
        networks = {width: _pair(structure, width, state[width], path, chance) for width in widths}
        if model is not None:
            for pair in networks.values():
                for network in pair:
                    network.to(model.device)
        step = state.get("step")
        notes = {"optional_info": state["optional_info"]} if isinstance(state.get("optional_info"), str) else {}
        done = step if isinstance(step, int) and step > 0 else 0
        return cls(name, path, structure, networks, chance, step=done, notes=notes)

    def groups(self) -> list[ParameterGroup]:
        """One group of all weights."""
        return [{"params": list(self.tensors().values())}]

    @contextmanager
    def acting(self, model: TrainableModel) -> Iterator[Sequence[UNetHook]]:
        """Gives a hook that lets the networks act on every attention."""
        yield (HypernetworkHook(self._networks),)

    def set_training(self, training: bool) -> None:
        """Drop-out on or off."""
        for network in (network for pair in self._networks.values() for network in pair):
            network.train(training)

    def seed_drop_out(self, seed: int) -> None:
        """Seed the networks' one source of chance."""
        self._chance.manual_seed(seed)

    @contextmanager
    def showing(self, services: Services) -> Iterator[Sequence[UNetHook]]:
        """Gives the same hook, without drop-out."""
        self.set_training(False)
        try:
            yield (HypernetworkHook(self._networks),)
        finally:
            self.set_training(True)

    def file(self, made_with: MadeWith, name: str) -> bytes:
        """The bytes of its file."""
        structure = self.structure
        state: dict[Any, Any] = {
            width: tuple({k: v.detach().cpu().clone() for k, v in network.state_dict().items()} for network in pair)
            for width, pair in self._networks.items()
        }
        for width, pair in state.items():
            state[width] = tuple({f"linear.{key}": value for key, value in part.items()} for part in pair)
        state.update(
            step=made_with.step,
            name=name,
            layer_structure=list(structure.layers),
            activation_func=structure.activation,
            is_layer_norm=structure.layer_norm,
            weight_initialization=structure.initialisation,
            sd_checkpoint=made_with.sd_checkpoint,
            sd_checkpoint_name=made_with.sd_checkpoint_name,
            activate_output=structure.activate_output,
            use_dropout=any(structure.dropout),
            dropout_structure=list(structure.dropout),
            last_layer_dropout=structure.dropout[-2] > 0,
            **self._notes,
        )
        return pickled(state)

    def checksum(self, data: bytes) -> str:
        """The first ten digits of the file's SHA-256."""
        return sha256(data).hexdigest()[:10]

    def tensors(self) -> Mapping[str, Tensor]:
        """The weights by width, network (0 for keys, 1 for values) and place."""
        return {
            f"{width}.{number}.{key}": value
            for width, pair in self._networks.items()
            for number, network in enumerate(pair)
            for key, value in network.named_parameters()
        }


class HypernetworkHook(UNetHook):
    """Adds what the networks say of a context to it, apart for keys and values; computed in float32."""

    def __init__(self, networks: Mapping[int, tuple[nn.Sequential, nn.Sequential]]) -> None:
        self._networks = networks

    def attention(self, site: AttentionSite) -> AttentionHandler:
        """The same handler for every site: contexts are told apart by their width."""
        return self._handle

    def _handle(self, call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Attend) -> Tensor:
        source = hidden if context is None else context
        pair = self._networks.get(source.shape[-1])
        if pair is None:
            return attend(hidden, context)
        exact = source.float()
        keys, values = ((exact + network(exact)).to(source.dtype) for network in pair)
        return attend(hidden, keys, values)


def _structure_of(state: Mapping[Any, Any], path: Path) -> Structure:
    layers = tuple(float(factor) for factor in state.get("layer_structure") or (1, 2, 1))
    given = state.get("dropout_structure")
    last_layer = bool(state.get("last_layer_dropout", False))
    used = bool(state.get("use_dropout", False))
    dropout = tuple(float(share) for share in given) if given else usual_dropout(layers, used, last_layer)
    structure = Structure(
        layers=layers,
        activation=state.get("activation_func"),
        initialisation=state.get("weight_initialization") or "Normal",
        layer_norm=bool(state.get("is_layer_norm", False)),
        activate_output=bool(state.get("activate_output", True)),
        dropout=dropout,
    )
    try:
        structure.check()
    except (InvalidRequest, AttributeError, TypeError) as error:
        raise ModelLoadError(f"{path.name} is damaged: {error}") from error
    return structure


def _pair(
    structure: Structure, width: int, weights: Any, path: Path, chance: Generator
) -> tuple[nn.Sequential, nn.Sequential]:
    if not 0 < width <= MAX_WIDTH:
        raise ModelLoadError(f"{path.name} is damaged: a context of width {width}")
    try:
        found = tuple(_network(structure, width, part, chance) for part in weights)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise ModelLoadError(f"{path.name} is damaged: {error}") from error
    if len(found) != 2:
        raise ModelLoadError(f"{path.name} is damaged: {len(found)} networks for the width {width}")
    return found


def _network(structure: Structure, width: int, weights: Mapping[str, Tensor], chance: Generator) -> nn.Sequential:
    import torch

    with torch.device("meta"):
        network = structure.build(width, chance)
    # The first files say linear1 for linear.0, and so on; none of them has more than two layers.
    names = {f"linear{number + 1}.": f"linear.{number}." for number in range(2)}
    plain = {
        next((key.replace(o, n) for o, n in names.items() if key.startswith(o)), key): v for key, v in weights.items()
    }
    state = {key.removeprefix("linear."): value.detach().float().clone() for key, value in plain.items()}
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(True)
