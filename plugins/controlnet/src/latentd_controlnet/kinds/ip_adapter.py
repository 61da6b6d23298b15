"""IP-Adapter: a second cross-attention, to tokens of a picture, is added to the first (a1111-controlnet-kinds)."""

from __future__ import annotations

import base64
import binascii

import torch
import torch.nn.functional as F
from torch import Tensor

from latentd.api import Attend, AttentionHandler, AttentionSite, Generation, JsonValue, UNetCall
from latentd_controlnet.kinds.hook import UnitHook
from latentd_controlnet.kinds.ip_adapter_weights import IPAdapter
from latentd_controlnet.kinds.union import Network
from latentd_controlnet.prepared import PreparedUnit

MAX_EMBEDDING = 64 * 2**20
MAX_FACES = 16
#: What a projection reads.
Read = tuple[Tensor, ...]
_ORDER = {"input": 0, "output": 1, "middle": 2}


class IPAdapterHook(UnitHook):
    """Adds ``weight`` times the attention to the picture's tokens in every cross-attention."""

    reads_tensors = True

    def __init__(self, prepared: PreparedUnit, adapter: IPAdapter) -> None:
        super().__init__(prepared)
        self.adapter = adapter
        self._places: dict[str, tuple[int, int]] = {}
        self._tokens: tuple[Tensor, Tensor] | None = None
        self._shape = (0, 0)
        reads = adapter.projection.reads
        self._given = _given_embeddings(prepared, reads)
        if "face" in reads and not self._given:
            raise prepared.unit.error(
                "this adapter reads a face's embedding, which no preprocessor here makes",
                hint="send ipadapter_input, base64 of a safetensors file with a tensor face [1,512]",
            )
        self._check_widths()
        own = prepared.unit.advanced_weighting
        if own is not None and len(own) != len(adapter.keys):
            layers = len(adapter.keys)
            raise prepared.unit.error(f"advanced_weighting has {len(own)} values, this adapter {layers} layers")

    def _check_widths(self) -> None:
        """Check the widths of the embeddings that the unit gives.

        :raises InvalidRequest: they do not fit the adapter.
        """
        try:
            if self._given:
                self._tokens = self._make_tokens()
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise self.prepared.unit.error(f"ipadapter_input does not fit this adapter: {reason}") from error

    def open(self, generation: Generation) -> None:
        """Number the cross-attentions: in running order for weights; encoder, decoder, middle for the file's layers."""
        cross = [site for site in generation.model.unet_runner.attention_sites if site.kind == "cross"]
        filed = sorted(cross, key=lambda site: _ORDER[site.block.partition("_")[0]])
        self._places = {site.name: (filed.index(site), site.index) for site in cross}

    def before(self, call: UNetCall) -> None:
        """Remember the size of the latent, to which the region mask is scaled."""
        self._shape = tuple(call.sample.shape[-2:])  # type: ignore[assignment]

    def tokens(self, call: UNetCall) -> Tensor:
        """Tokens [B,k,width]: of the picture for rows with the prompt, of a blank one for rows without."""
        if self._tokens is None:
            self._tokens = self._make_tokens()
        cond, uncond = self._tokens
        return torch.where(call.is_cond[:, None, None], cond, uncond)

    def _make_tokens(self) -> tuple[Tensor, Tensor]:
        weight = next(self.adapter.parameters())
        pairs = self._given or self._encoded()
        projected = [[self.adapter.projection(*(part.to(weight) for part in read)) for read in pair] for pair in pairs]
        cond, uncond = (torch.cat([pair[i] for pair in projected]).mean(dim=0, keepdim=True) for i in (0, 1))
        return cond, uncond

    def _encoded(self) -> list[tuple[Read, Read]]:
        """For each of the unit's pictures, (the projection's inputs, the same inputs for a blank picture)."""
        assert self.maps is not None
        if self.adapter.projection.reads == ("next_to_last",):
            return [((seen.next_to_last,), (seen.blank_next_to_last,)) for seen in self.maps.tensors]
        return [((seen.embeds,), (torch.zeros_like(seen.embeds),)) for seen in self.maps.tensors]

    def attention(self, site: AttentionSite) -> AttentionHandler | None:
        """A handler that adds the second attention; None for self-attention."""
        if site.kind != "cross":
            return None

        def handler(call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Attend) -> Tensor:
            out = attend(hidden, context)
            if not self.acts(call) or site.name not in self._places:
                return out
            return out + self._added(site.name, call, hidden, attend.module)

        return handler

    def _added(self, name: str, call: UNetCall, hidden: Tensor, module: Network) -> Tensor:
        filed, executed = self._places[name]
        tokens = self.tokens(call)
        own = self.prepared.unit.advanced_weighting
        weight = self.weight if own is None else own[executed]
        parts = module.to_q(hidden), self.adapter.keys[filed](tokens), self.adapter.values[filed](tokens)
        q, k, v = (part.to(hidden).unflatten(-1, (module.heads, -1)).transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2) * weight
        attended = self._in_region_tokens(attended)
        return F.linear(attended, module.to_out[0].weight)

    def _in_region_tokens(self, attended: Tensor) -> Tensor:
        """``attended`` [B,n,c], n being the cells of the feature map row by row, multiplied by the region mask."""
        if self.prepared.region is None:
            return attended
        height, width = self._shape
        halvings = 0
        while height * width > attended.shape[1] and halvings < 8:
            height, width, halvings = -(-height // 2), -(-width // 2), halvings + 1
        mask = torch.from_numpy(self.prepared.region.copy()).float().div(255)[None, None].to(attended)
        return attended * F.interpolate(mask, size=(height, width), mode="bilinear").flatten(2).transpose(1, 2)

    def close(self) -> None:
        """Drop the tokens and embeddings."""
        super().close()
        self._tokens, self._given = None, []


def _given_embeddings(prepared: PreparedUnit, reads: tuple[str, ...]) -> list[tuple[Read, Read]]:
    """The embeddings in ``ipadapter_input``: base64 of a safetensors file, or a list of these. Pickles are refused.

    The tensors have the names in ``reads``, or the name ``cond``. Those of a blank picture are called ``blank_<name>``
    or ``uncond``; without them zeros are used.

    :raises InvalidRequest: it is something else, or lacks an input of this adapter.
    """
    given = prepared.unit.embedding
    pairs = []
    for text in given if isinstance(given, list) else [] if given is None else [given]:
        tensors = _read_tensors(prepared, text)
        cond, uncond = [], []
        for name in reads:
            found = tensors.get(name, tensors.get("cond") if name == reads[0] else None)
            if found is None or not 2 <= found.ndim <= 3 or found.shape[0] > MAX_FACES:
                hint = "it reads " + " and ".join(reads)
                raise prepared.unit.error(f"ipadapter_input lacks a tensor {name} for this adapter", hint=hint)
            nothing = tensors.get(f"blank_{name}", tensors.get("uncond") if name == reads[0] else None)
            cond.append(found)
            uncond.append(torch.zeros_like(found) if nothing is None or nothing.shape != found.shape else nothing)
        pairs.append((tuple(cond), tuple(uncond)))
    return pairs


def _read_tensors(prepared: PreparedUnit, text: JsonValue) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        if not isinstance(text, str) or len(text) > MAX_EMBEDDING:
            raise ValueError
        return {name: tensor.float() for name, tensor in load(base64.b64decode(text, validate=True)).items()}
    except (SafetensorError, binascii.Error, ValueError) as error:
        raise prepared.unit.error("ipadapter_input must be base64 of a safetensors file") from error
