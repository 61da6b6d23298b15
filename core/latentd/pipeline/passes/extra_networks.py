"""The core's own prompt tags: ``<lora:...>`` (also ``<lyco:...>``) and ``<hypernet:...>`` (rules: a1111-tags)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.errors import InvalidRequest
from latentd.models.files.hashes import file_stamp
from latentd.networks.contents import NetworkContents, read_network
from latentd.networks.hypernetworks import Hypernetwork, HypernetworkHooks, load_hypernetwork
from latentd.networks.merge import AppliedNetwork, ApplyMode, NetworkRequest, NetworkState, Reason
from latentd.networks.names import targets_of
from latentd.pipeline.passes.bundled_embeddings import bundle_of, read_bundles
from latentd.pipeline.planning.network_tags import hypernetwork_multiplier, lora_arguments, surplus_arguments, tag_name
from latentd.prompts.networks import NetworkTag

if TYPE_CHECKING:
    from latentd.models.loaded import LoadedModel
    from latentd.networks.files import NetworkOnDisk
    from latentd.pipeline.generation import RunningGeneration

LORA = "lora"


def activate_lora(gen: RunningGeneration, tags: Sequence[NetworkTag]) -> None:
    """Apply exactly the networks of ``tags`` to the model in use; unknown ones are left out with a warning.

    They stay until a job needs others, so that they are applied once for a series of jobs with the same networks.

    :raises InvalidRequest: a network fits nothing in any of the job's models.
    :raises ModelLoadError: a file is damaged.
    """
    library = gen.services.networks
    requests, named = [], []
    for tag in tags:
        network = library.find(tag_name(tag))
        if network is None:
            gen.warn(f"LoRA not found: {tag_name(tag)}; it is left out")
            continue
        _tell_surplus(gen, tag)
        requests.append(_request(gen, tag, network))
        named.append((tag_name(tag).replace(":", "").replace(",", ""), network))
    gen.networks = tuple(requests)
    for applied in lay_over(gen, gen.model, requests):
        _judge(gen, applied)
    if named and gen.options["lora_add_hashes_to_infotext"]:
        gen.infotext["Lora hashes"] = ", ".join(f"{name}: {library.short_hash(network)}" for name, network in named)


def lay_over(
    gen: RunningGeneration, model: LoadedModel, requests: Sequence[NetworkRequest]
) -> Sequence[AppliedNetwork]:
    """Apply exactly ``requests`` to ``model``; returns the effect of each."""
    state = model.networks
    if not isinstance(state, NetworkState):
        if not requests:
            return ()
        state = model.networks = NetworkState(keep_on="cpu" if model.policy.offload != "none" else None)
    before = state.applied
    targets = targets_of(model.unet, model.text_encoders)
    applied = state.apply(targets, requests, read=_reader(gen))
    if applied is not before:
        read_bundles(model, applied)
    return applied


def _judge(gen: RunningGeneration, applied: AppliedNetwork) -> None:
    """Warn about the parts of a network without effect; fail the job if all of it has no effect anywhere.

    If the job has a second checkpoint, the network may have an effect on only one of them.
    """
    name, file, model = applied.network.name, applied.network.path.name, gen.model.info.name
    acting, problems = bundle_of(gen, applied)
    for problem in problems:
        gen.warn(problem)
    if applied.unread:
        gen.warn(f"LoRA {name!r} ({file}): alpha_pattern {', '.join(map(repr, applied.unread))} is not followed")
    if applied.ignored:
        count, first = len(applied.ignored), applied.ignored[0]
        gen.warn(f"LoRA {name!r} ({file}): {count} tensors of no known meaning are not read, such as {first}")
    acted = gen.networks_acted
    if applied.matched or acting or Reason.PASSED_OVER in applied.left_out:
        acted.add(applied.network.path)
        if applied.left_out:
            counts = f"{applied.matched} of {applied.total} modules are changed"
            gen.warn(f"LoRA {name!r} ({file}) fits {model} in part: {counts}; {applied.shortfall()}")
        return
    looks = f"; it looks like {applied.kind}" if applied.kind else ""
    nothing = f"LoRA {name!r} ({file}) fits nothing in {model}{looks}"
    if applied.network.path not in acted and not _acts_later(gen):
        raise InvalidRequest(nothing, hint=applied.shortfall() or "the file holds no weights of a network")
    gen.warn(nothing)


def _acts_later(gen: RunningGeneration) -> bool:
    """Whether a later pass has another checkpoint."""
    hires = gen.plan.hires
    return gen.pass_name == "base" and hires is not None and hires.checkpoint not in (None, gen.plan.checkpoint)


def activate_hypernetworks(gen: RunningGeneration, tags: Sequence[NetworkTag]) -> None:
    """Apply the hypernetworks of ``tags`` to the next passes; unknown ones are left out with a warning.

    :raises InvalidRequest: one fits none of the model's attentions.
    :raises ModelLoadError: a file is damaged.
    """
    known = gen.services.hypernetworks
    active = []
    for tag in tags:
        path = known.get(tag_name(tag))
        if path is None:
            gen.warn(f"hypernetwork not found: {tag_name(tag)}; it is left out")
            continue
        _tell_surplus(gen, tag)
        key = ("hypernetwork", str(path), *file_stamp(path))
        network = gen.services.models.cache.get(key, partial(load_hypernetwork, path), size=path.stat().st_size)
        _check_widths(gen, network, path)
        active.append((network, hypernetwork_multiplier(tag)))
    if active:
        gen.network_hooks.append(HypernetworkHooks(active))


def _tell_surplus(gen: RunningGeneration, tag: NetworkTag) -> None:
    if (surplus := surplus_arguments(tag)) is not None:
        gen.warn(surplus)


def _check_widths(gen: RunningGeneration, network: Hypernetwork, path: Path) -> None:
    widths = {gen.model.context_width, *gen.model.unet.config.block_out_channels}
    if not widths & network.layers.keys():
        found = ", ".join(map(str, sorted(network.layers))) or "none"
        raise InvalidRequest(
            f"hypernetwork {path.stem!r} ({path.name}) fits nothing in {gen.model.info.name}",
            hint=f"the model's attentions have widths {sorted(widths)}, the file those for: {found}",
        )


def _reader(gen: RunningGeneration) -> Callable[[Path], NetworkContents]:
    """A function that reads network files and keeps the last few in memory (option ``lora_in_memory_limit``)."""
    cache, count = gen.services.models.cache, int(gen.options["lora_in_memory_limit"])
    if count < 1:
        cache.drop(LORA)
        return read_network
    cache.limit(LORA, count)

    def read(path: Path) -> NetworkContents:
        key = (LORA, str(path), *file_stamp(path))
        contents: NetworkContents = cache.get(key, lambda: read_network(path), lambda found: found.nbytes)
        return contents

    return read


def _request(gen: RunningGeneration, tag: NetworkTag, network: NetworkOnDisk) -> NetworkRequest:
    options, arguments = gen.options, lora_arguments(tag)
    mode: ApplyMode = "beside" if options["lora_functional"] else "merged"
    if options["lora_apply_to_outputs"]:
        mode = "outputs"
    return NetworkRequest(
        network=network,
        te=arguments.te,
        unet=arguments.unet,
        dyn=arguments.dyn,
        mode=mode,
        as_original=bool(options["lora_as_automatic1111"]),
    )
