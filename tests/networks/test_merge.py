from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from latentd.errors import ModelLoadError
from latentd.models.modules.fp8 import FP8, keep_in_fp8
from latentd.networks.contents import NetworkContents, read_network
from latentd.networks.files import NetworkOnDisk
from latentd.networks.merge import ApplyMode, NetworkRequest, NetworkState, Reason
from latentd.networks.names import Targets, targets_of
from latentd.networks.spellings import canonical

Save = Callable[..., NetworkOnDisk]
Build = Callable[..., nn.Module]

TO_Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
FC1 = "encoder.layers.0.mlp.fc1"
UNET_KEY = "lora_unet_" + TO_Q.replace(".", "_")
TEXT_KEY = "lora_te_text_model_encoder_layers_0_mlp_fc1"


def lora(key: str, out: int, into: int, seed: int = 0) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        f"{key}.lora_up.weight": torch.randn(out, 2, generator=random),
        f"{key}.lora_down.weight": torch.randn(2, into, generator=random),
        f"{key}.alpha": torch.tensor(1.0),
    }


def product(tensors: dict[str, Tensor], key: str) -> Tensor:
    return tensors[f"{key}.lora_up.weight"] @ tensors[f"{key}.lora_down.weight"] / 2


def snapshot(targets: Targets) -> list[tuple[str, Tensor]]:
    return [(name, value.clone()) for part in targets.modules() for name, value in part.state_dict().items()]


def same(left: list[tuple[str, Tensor]], right: list[tuple[str, Tensor]]) -> bool:
    return len(left) == len(right) and all(
        a == b and x.dtype == y.dtype and torch.equal(x, y) for (a, x), (b, y) in zip(left, right, strict=True)
    )


def weight_of(targets: Targets, path: str) -> Tensor:
    root = targets.text_encoders[0] if path.startswith("encoder") else targets.unet
    assert root is not None
    return root.get_parameter(f"{path}.weight")


def test_each_multiplier_acts_on_its_own_part(targets: Targets, save: Save) -> None:
    tensors = {**lora(UNET_KEY, 8, 8), **lora(TEXT_KEY, 20, 12)}
    before = {path: weight_of(targets, path).clone() for path in (TO_Q, FC1)}
    (report,) = NetworkState().apply(targets, [NetworkRequest(network=save("a", tensors), te=0.25, unet=-2.0)])
    assert report.matched == 2
    assert report.left_out == {}
    torch.testing.assert_close(weight_of(targets, TO_Q), before[TO_Q] - 2.0 * product(tensors, UNET_KEY))
    torch.testing.assert_close(weight_of(targets, FC1), before[FC1] + 0.25 * product(tensors, TEXT_KEY))


def test_the_picture_changes_with_the_weights(targets: Targets, save: Save) -> None:
    state = NetworkState()
    arguments = (torch.ones(1, 4, 8, 8), torch.tensor(5), torch.ones(1, 3, 12))
    assert targets.unet is not None
    plain = targets.unet(*arguments).sample
    state.apply(targets, [NetworkRequest(network=save("a", lora(UNET_KEY, 8, 8)))])
    assert not torch.equal(targets.unet(*arguments).sample, plain)
    state.restore()
    assert torch.equal(targets.unet(*arguments).sample, plain)


def test_networks_are_laid_on_in_order_and_restored_bit_for_bit(targets: Targets, save: Save) -> None:
    first, second = lora(UNET_KEY, 8, 8, 1), lora(UNET_KEY, 8, 8, 2)
    before, original = snapshot(targets), weight_of(targets, TO_Q)
    requests = [NetworkRequest(network=save("a", first), unet=0.3), NetworkRequest(network=save("b", second), unet=0.7)]
    state = NetworkState()
    state.apply(targets, requests)
    expected = (original + product(first, UNET_KEY) * 0.3) + product(second, UNET_KEY) * 0.7
    torch.testing.assert_close(weight_of(targets, TO_Q), expected)
    assert state.apply(targets, []) == () == state.applied
    assert same(snapshot(targets), before)
    assert weight_of(targets, TO_Q) is original


def test_other_networks_replace_the_ones_before(targets: Targets, save: Save) -> None:
    a, b = save("a", lora(UNET_KEY, 8, 8, 1)), save("b", lora(TEXT_KEY, 20, 12, 2))
    state = NetworkState()
    original = weight_of(targets, TO_Q).clone()
    state.apply(targets, [NetworkRequest(network=a)])
    state.apply(targets, [NetworkRequest(network=b)])
    assert torch.equal(weight_of(targets, TO_Q), original)


def test_the_same_set_again_is_no_work(targets: Targets, save: Save) -> None:
    request = NetworkRequest(network=save("a", lora(UNET_KEY, 8, 8)), unet=0.5)
    state = NetworkState()
    first = state.apply(targets, [request])
    laid = weight_of(targets, TO_Q)
    assert state.apply(targets, [request]) is first
    assert weight_of(targets, TO_Q) is laid
    state.apply(targets, [NetworkRequest(network=request.network, unet=0.6)])
    assert weight_of(targets, TO_Q) is not laid


def test_a_changed_file_is_read_again(targets: Targets, save: Save) -> None:
    state = NetworkState()
    state.apply(targets, [NetworkRequest(network=save("a", lora(UNET_KEY, 8, 8, 1)))])
    laid = weight_of(targets, TO_Q).clone()
    state.apply(targets, [NetworkRequest(network=save("a", lora(UNET_KEY, 8, 8, 2)))])
    assert not torch.equal(weight_of(targets, TO_Q), laid)


def test_ranks_can_be_cut_by_dyn(targets: Targets, save: Save) -> None:
    tensors = lora(UNET_KEY, 8, 8)
    original = weight_of(targets, TO_Q).clone()
    NetworkState().apply(targets, [NetworkRequest(network=save("a", tensors), dyn=1)])
    up, down = tensors[f"{UNET_KEY}.lora_up.weight"], tensors[f"{UNET_KEY}.lora_down.weight"]
    torch.testing.assert_close(weight_of(targets, TO_Q), original + up[:, :1] @ down[:1] / 2)


def test_biases_are_changed_made_and_taken_away_again(targets: Targets, save: Save) -> None:
    assert targets.unet is not None
    module, conv_in = targets.unet.get_submodule(TO_Q), targets.unet.get_submodule("conv_in")
    assert module.bias is None
    before = snapshot(targets)
    tensors = {
        f"{UNET_KEY}.diff": torch.zeros(8, 8),
        f"{UNET_KEY}.diff_b": torch.ones(8),
        "lora_unet_conv_in.diff": torch.zeros(8, 4, 3, 3),
        "lora_unet_conv_in.diff_b": torch.ones(8),
    }
    state, old = NetworkState(), conv_in.bias.clone()
    state.apply(targets, [NetworkRequest(network=save("a", tensors), unet=0.5)])
    assert torch.equal(module.bias, torch.full((8,), 0.5))
    assert torch.equal(conv_in.bias, old + 0.5)
    state.restore()
    assert module.bias is None
    assert same(snapshot(targets), before)


def test_norm_layers_and_ldm_names(targets: Targets, save: Save) -> None:
    assert targets.unet is not None
    norm = targets.unet.get_submodule("down_blocks.0.resnets.0.norm1")
    old = norm.weight.clone()
    key = "lora_unet_input_blocks_1_0_in_layers_0"
    tensors = {f"{key}.w_norm": torch.ones(8), f"{key}.b_norm": torch.ones(8)}
    NetworkState().apply(targets, [NetworkRequest(network=save("a", tensors))])
    assert torch.equal(norm.weight, old + 1)


FOUR_CHANNELS = {
    "whole": {"lora_unet_conv_in.diff": torch.ones(8, 4, 3, 3)},
    "low rank": {
        "lora_unet_conv_in.lora_up.weight": torch.ones(8, 1, 1, 1),
        "lora_unet_conv_in.lora_down.weight": torch.ones(1, 4, 3, 3),
    },
    "LDM's name": {
        "lora_unet_input_blocks_0_0.lora_up.weight": torch.ones(8, 2, 1, 1),
        "lora_unet_input_blocks_0_0.lora_down.weight": torch.ones(2, 4, 3, 3) / 2,
    },
}


@pytest.mark.parametrize("tensors", FOUR_CHANNELS.values(), ids=FOUR_CHANNELS)
def test_inpainting_models_take_four_channel_networks(
    save: Save, tiny_unet: Build, tiny_text_encoder: Build, tensors: dict[str, Tensor]
) -> None:
    targets = targets_of(tiny_unet(in_channels=9), [tiny_text_encoder()])
    assert targets.unet is not None
    old = targets.unet.get_submodule("conv_in").weight.clone()
    NetworkState().apply(targets, [NetworkRequest(network=save("a", tensors))])
    change = targets.unet.get_submodule("conv_in").weight - old
    torch.testing.assert_close(change[:, :4], torch.ones(8, 4, 3, 3))
    assert not change[:, 4:].any()


def test_unmatched_names_are_reported_and_ignored(targets: Targets, save: Save) -> None:
    before = snapshot(targets)
    (report,) = NetworkState().apply(targets, [NetworkRequest(network=save("a", lora("lora_unet_nowhere", 2, 2)))])
    assert report.left_out == {Reason.UNKNOWN: ("lora_unet_nowhere",)}
    assert (report.matched, report.total) == (0, 1)
    assert same(snapshot(targets), before)


@pytest.mark.parametrize("mode", ["merged", "beside"])
def test_modules_of_another_shape_are_passed_over_and_told(targets: Targets, save: Save, mode: ApplyMode) -> None:
    tensors = {**lora(UNET_KEY, 8, 24), **lora(TEXT_KEY, 20, 12)}
    original, text = weight_of(targets, TO_Q), weight_of(targets, FC1).clone()
    (report,) = NetworkState().apply(targets, [NetworkRequest(network=save("mixed", tensors), mode=mode)])
    assert (report.matched, report.left_out) == (1, {Reason.MISSHAPEN: (UNET_KEY,)})
    assert report.shortfall() == "1 of another shape here, such as " + UNET_KEY
    assert weight_of(targets, TO_Q) is original
    assert torch.equal(weight_of(targets, FC1), text) is (mode == "beside")


@pytest.mark.parametrize("as_original", [True, False])
def test_a_change_with_other_outputs_is_reshaped_as_in_the_original_only(
    targets: Targets, save: Save, as_original: bool
) -> None:
    """The text encoder's layer is [20, 12]; the change, of a layer [12, 20], has as many numbers."""
    tensors = lora(TEXT_KEY, 12, 20)
    before = weight_of(targets, FC1).clone()
    request = NetworkRequest(network=save("turned", tensors), as_original=as_original)
    (report,) = NetworkState().apply(targets, [request])
    changed = before + product(tensors, TEXT_KEY).reshape(20, 12) if as_original else before
    assert torch.allclose(weight_of(targets, FC1), changed, atol=1e-6)
    assert report.left_out == ({} if as_original else {Reason.MISSHAPEN: (TEXT_KEY,)})


def test_a_change_far_larger_than_its_module_is_not_made(targets: Targets, save: Save) -> None:
    huge = {f"{UNET_KEY}.lokr_w1": torch.zeros(1, 1).expand(3000, 3000), f"{UNET_KEY}.lokr_w2": torch.zeros(3000, 3000)}
    contents = {canonical(f"{UNET_KEY}.x").module: {k.rpartition(".")[2]: v for k, v in huge.items()}}
    network = save("huge", {f"{UNET_KEY}.alpha": torch.tensor(1.0)})
    (report,) = NetworkState().apply(
        targets, [NetworkRequest(network=network)], read=lambda _: NetworkContents(modules=contents)
    )
    assert report.left_out == {Reason.MISSHAPEN: (f"{UNET_KEY}",)}


def test_weights_of_no_known_kind_are_told(targets: Targets, save: Save) -> None:
    network = save("odd", {**lora(TEXT_KEY, 20, 12), f"{UNET_KEY}.vera_lambda_b": torch.ones(8)})
    (report,) = NetworkState().apply(targets, [NetworkRequest(network=network)])
    assert (report.matched, report.left_out) == (1, {Reason.UNTYPED: (UNET_KEY,)})


def test_a_file_damaged_since_it_was_listed_fails_and_leaves_no_trace(targets: Targets, save: Save) -> None:
    before = snapshot(targets)
    good, bad = save("good", lora(UNET_KEY, 8, 8)), save("bad", lora(UNET_KEY, 8, 8))
    Path(bad.path).write_bytes(b"\x08\0\0\0\0\0\0\0damaged!")
    with pytest.raises(ModelLoadError):
        NetworkState().apply(targets, [NetworkRequest(network=good), NetworkRequest(network=bad)])
    assert same(snapshot(targets), before)


def test_restoring_follows_a_model_that_moved(targets: Targets, save: Save) -> None:
    assert targets.unet is not None
    state = NetworkState()
    state.apply(targets, [NetworkRequest(network=save("a", lora(UNET_KEY, 8, 8)))])
    targets.unet.to("meta")
    state.restore()
    assert {p.device.type for p in targets.unet.parameters()} == {"meta"}


def test_restore_frees_the_changed_weights(targets: Targets, save: Save) -> None:
    state = NetworkState()
    state.apply(targets, [NetworkRequest(network=save("a", lora(UNET_KEY, 8, 8)))])
    laid = weakref.ref(weight_of(targets, TO_Q))
    state.restore()
    gc.collect()
    assert laid() is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models_stay_so(targets: Targets, save: Save, dtype: torch.dtype) -> None:
    for part in targets.modules():
        part.to(dtype)
    before = snapshot(targets)
    state = NetworkState()
    state.apply(targets, [NetworkRequest(network=save("a", lora(UNET_KEY, 8, 8)))])
    assert weight_of(targets, TO_Q).dtype == dtype
    state.restore()
    assert same(snapshot(targets), before)


def test_inference_mode_is_no_obstacle(targets: Targets, save: Save) -> None:
    before = snapshot(targets)
    state = NetworkState()
    with torch.inference_mode():
        state.apply(targets, [NetworkRequest(network=save("a", lora(UNET_KEY, 8, 8)))])
        state.restore()
    assert same(snapshot(targets), before)


def test_embeddings_come_along(targets: Targets, save: Save) -> None:
    a = save("a", {**lora(UNET_KEY, 8, 8), "bundle_emb.word.emb_params": torch.ones(2, 12)})
    b = save("b", {"bundle_emb.word.emb_params": torch.zeros(1, 12)})
    first, second = NetworkState().apply(targets, [NetworkRequest(network=a), NetworkRequest(network=b)])
    assert first.embeddings["word"]["emb_params"].shape == (2, 12)
    assert second.embeddings["word"]["emb_params"].shape == (1, 12)
    assert (second.matched, second.total) == (0, 0)


# --- weights in eight bits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_full", [False, True])
def test_networks_are_laid_over_weights_in_eight_bits_and_taken_off(
    targets: Targets, save: Save, keep_full: bool
) -> None:
    whole = weight_of(targets, TO_Q).detach().clone()
    keep_in_fp8(targets.modules(), keep_full=keep_full)
    stored = weight_of(targets, TO_Q)
    tensors = lora(UNET_KEY, 8, 8)
    base = whole.half().float() if keep_full else stored.float()
    state = NetworkState()
    state.apply(targets, [NetworkRequest(network=save("a", tensors), unet=0.3)])
    expected = (base + product(tensors, UNET_KEY) * 0.3).to(FP8)
    assert torch.equal(weight_of(targets, TO_Q).float(), expected.float())
    state.restore()
    assert weight_of(targets, TO_Q) is stored


def test_with_copies_several_networks_are_rounded_once(targets: Targets, save: Save) -> None:
    whole = weight_of(targets, TO_Q).detach().clone()
    keep_in_fp8(targets.modules(), keep_full=True)
    first, second = lora(UNET_KEY, 8, 8, 1), lora(UNET_KEY, 8, 8, 2)
    NetworkState().apply(
        targets,
        [NetworkRequest(network=save("a", first), unet=0.3), NetworkRequest(network=save("b", second), unet=0.4)],
    )
    expected = (whole.half().float() + product(first, UNET_KEY) * 0.3) + product(second, UNET_KEY) * 0.4
    assert torch.equal(weight_of(targets, TO_Q).float(), expected.to(FP8).float())


# --- beside the weights ----------------------------------------------------------------------------------------------

ARGUMENTS = (torch.ones(1, 4, 8, 8), torch.tensor(5), torch.ones(1, 3, 12))


def output(targets: Targets) -> Tensor:
    assert targets.unet is not None
    result: Tensor = targets.unet(*ARGUMENTS).sample
    return result


CONV = "down_blocks.0.resnets.0.conv1"
KEYS = {path: "lora_unet_" + path.replace(".", "_") for path in (CONV, "down_blocks.0.resnets.0.norm1")}


def several_kinds() -> dict[str, Tensor]:
    """A low-rank change of a linear layer, one of a convolution, a full difference with a bias, and a norm's."""
    random = torch.Generator().manual_seed(4)
    conv, norm = KEYS.values()
    return {
        **lora(UNET_KEY, 8, 8),
        f"{conv}.lora_up.weight": torch.randn(8, 2, 1, 1, generator=random),
        f"{conv}.lora_down.weight": torch.randn(2, 8, 3, 3, generator=random),
        f"{norm}.w_norm": torch.randn(8, generator=random),
        f"{norm}.b_norm": torch.randn(8, generator=random),
        "lora_unet_time_embedding_linear_1.diff": torch.randn(32, 8, generator=random),
        "lora_unet_time_embedding_linear_1.diff_b": torch.randn(32, generator=random),
    }


def test_beside_the_weights_a_network_answers_as_when_merged(targets: Targets, save: Save) -> None:
    network = save("a", several_kinds())
    plain, weights = output(targets), snapshot(targets)
    state = NetworkState()
    state.apply(targets, [NetworkRequest(network=network, unet=0.4)])
    merged = output(targets)
    (applied,) = state.apply(targets, [NetworkRequest(network=network, unet=0.4, mode="beside")])
    assert applied.matched == 4
    assert same(snapshot(targets), weights)
    torch.testing.assert_close(output(targets), merged, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(merged, plain)
    state.restore()
    assert torch.equal(output(targets), plain)


def test_a_layers_output_may_be_fed_to_the_network(targets: Targets, save: Save) -> None:
    network = save("a", {**lora(UNET_KEY, 8, 8), **lora(TEXT_KEY, 20, 12)})
    assert targets.unet is not None
    square, wide = targets.unet.get_submodule(TO_Q), targets.text_encoders[0].get_submodule(FC1)
    x, y = torch.ones(1, 3, 8), torch.ones(1, 3, 12)
    plain = square(x)
    state = NetworkState()
    state.apply(targets, [NetworkRequest(network=network, mode="outputs")])
    expected = plain + plain @ product(lora(UNET_KEY, 8, 8), UNET_KEY).T
    torch.testing.assert_close(square(x), expected)
    fed_input = wide(y)
    state.apply(targets, [NetworkRequest(network=network, mode="beside")])
    torch.testing.assert_close(wide(y), fed_input)
    assert not torch.allclose(square(x), expected)


def test_networks_stand_beside_weights_in_eight_bits(targets: Targets, save: Save) -> None:
    network = save("a", several_kinds())
    keep_in_fp8(targets.modules(), keep_full=False)
    plain = output(targets)
    NetworkState().apply(targets, [NetworkRequest(network=network, mode="beside")])
    assert not torch.allclose(output(targets), plain)


def test_a_reader_may_keep_what_it_read(targets: Targets, save: Save) -> None:
    network, reads = save("a", lora(UNET_KEY, 8, 8)), []

    def read(path: Path) -> NetworkContents:
        reads.append(path)
        return read_network(path)

    NetworkState().apply(targets, [NetworkRequest(network=network)], read=read)
    assert reads == [network.path]
