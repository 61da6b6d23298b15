"""Each weight type against its formula written out, in float64 so that only the algebra is tested."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latentd.networks.modules import module_from
from latentd.networks.modules.base import NetworkModule, Weights


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(3)


def read(weights: Weights) -> NetworkModule:
    module = module_from(weights)
    assert module is not None
    return module


def test_lora_is_up_times_down_over_dim_times_alpha() -> None:
    up, down = rand(6, 4), rand(4, 5)
    module = read({"lora_up.weight": up, "lora_down.weight": down, "alpha": torch.tensor(2.0)})
    torch.testing.assert_close(module.delta(rand(6, 5)), up @ down * 0.5)
    torch.testing.assert_close(module.delta(rand(6, 5), rank=2), up[:, :2] @ down[:2] * 0.5)
    torch.testing.assert_close(module.delta(rand(6, 5, 1, 1)), (up @ down * 0.5)[..., None, None])


def test_scale_tensor_wins_and_without_alpha_nothing_is_scaled() -> None:
    up, down = rand(3, 2), rand(2, 3)
    weights = {"lora_up.weight": up, "lora_down.weight": down}
    torch.testing.assert_close(read(weights).delta(rand(3, 3)), up @ down)
    both = {**weights, "alpha": torch.tensor(1.0), "scale": torch.tensor(3.0)}
    torch.testing.assert_close(read(both).delta(rand(3, 3)), up @ down * 3)


def test_lora_on_convolutions_whole_and_in_cp_form() -> None:
    up, down = rand(6, 4, 1, 1), rand(4, 5, 3, 3)
    plain = read({"lora_up.weight": up, "lora_down.weight": down}).delta(rand(6, 5, 3, 3))
    torch.testing.assert_close(plain, torch.einsum("or,rikl->oikl", up[..., 0, 0], down))
    mid, down = rand(4, 4, 3, 3), rand(4, 5, 1, 1)
    cp = read({"lora_up.weight": up, "lora_mid.weight": mid, "lora_down.weight": down}).delta(rand(6, 5, 3, 3))
    x = rand(2, 5, 7, 7)
    chained = torch.conv2d(torch.conv2d(torch.conv2d(x, down), mid), up)
    torch.testing.assert_close(torch.conv2d(x, cp), chained)


def test_a_bias_tensor_adds_to_the_change() -> None:
    up, down, bias = rand(3, 2), rand(2, 4), rand(3, 4)
    module = read({"lora_up.weight": up, "lora_down.weight": down, "bias": bias})
    torch.testing.assert_close(module.delta(rand(3, 4)), up @ down + bias)


def test_loha_is_a_product_of_products() -> None:
    a1, b1, a2, b2 = rand(6, 2), rand(2, 5), rand(6, 2), rand(2, 5)
    weights = {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2, "alpha": torch.tensor(1.0)}
    torch.testing.assert_close(read(weights).delta(rand(6, 5)), (a1 @ b1) * (a2 @ b2) / 2)


def test_loha_in_cp_form() -> None:
    t1, t2, a, b = rand(2, 3, 3, 3), rand(2, 3, 3, 3), rand(2, 6), rand(3, 5)
    weights = {"hada_t1": t1, "hada_t2": t2, "hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": a, "hada_w2_b": b}
    sides = [torch.einsum("rskl,ro,si->oikl", t, a, b) for t in (t1, t2)]
    torch.testing.assert_close(read(weights).delta(rand(6, 5, 3, 3)), sides[0] * sides[1])


def test_lokr_is_a_kronecker_product_with_whole_or_low_rank_factors() -> None:
    w1, w2, a, b = rand(2, 3), rand(4, 5), rand(4, 2), rand(2, 5)
    whole = read({"lokr_w1": w1, "lokr_w2": w2, "alpha": torch.tensor(9.0)})
    torch.testing.assert_close(whole.delta(rand(8, 15)), torch.kron(w1, w2))
    low = read({"lokr_w1": w1, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(1.0)})
    torch.testing.assert_close(low.delta(rand(8, 15)), torch.kron(w1, a @ b) / 2)
    conv = read({"lokr_w1": w1, "lokr_w2": rand(4, 5, 3, 3)}).delta(rand(8, 15, 3, 3))
    assert conv.shape == (8, 15, 3, 3)


def test_ia3_scales_rows_or_columns() -> None:
    weight, rows, columns = rand(6, 5), rand(6), rand(5)
    off, on = torch.tensor(False), torch.tensor(True)
    torch.testing.assert_close(read({"weight": rows, "on_input": off}).delta(weight), weight * rows[:, None])
    torch.testing.assert_close(read({"weight": columns, "on_input": on}).delta(weight), weight * columns)


def test_full_and_norm_differences_reach_the_bias_too() -> None:
    diff, bias = rand(6, 5), rand(6)
    full = read({"diff": diff, "diff_b": bias})
    torch.testing.assert_close(full.delta(rand(6, 5)), diff)
    assert torch.equal(full.bias_delta(bias), bias)  # type: ignore[arg-type]
    assert read({"diff": diff}).bias_delta(bias) is None
    norm = read({"w_norm": bias, "b_norm": bias * 2})
    assert torch.equal(norm.delta(rand(6)), bias)
    assert torch.equal(norm.bias_delta(bias), bias * 2)  # type: ignore[arg-type]


def test_glora_has_a_term_in_the_weight() -> None:
    weight, a1, a2, b1, b2 = rand(6, 5), rand(2, 5), rand(5, 2), rand(2, 5), rand(6, 2)
    parts = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2, "alpha": torch.tensor(7.0)}
    torch.testing.assert_close(read(parts).delta(weight), b2 @ b1 + weight @ a2 @ a1)


@pytest.mark.parametrize("kernel", [(), (1, 1), (3, 3)])
def test_glora_under_lycoris_later_names_is_scaled_by_alpha(kernel: tuple[int, ...]) -> None:
    weight, a1, a2, b1, b2 = rand(6, 6, *kernel), rand(6, 2), rand(2, 6), rand(6, 2), rand(2, 6, *kernel)
    parts = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2, "alpha": torch.tensor(1.0)}
    columns = weight.movedim(1, -1) @ a1 @ a2
    expected = (b1 @ b2.flatten(1)).reshape(weight.shape) + columns.movedim(-1, 1)
    torch.testing.assert_close(read(parts).delta(weight), expected * 0.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_alpha_counts_in_every_form(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    up, down = rand(3, 4), rand(4, 3)
    alpha = torch.full(shape, 2, dtype=dtype)
    module = read({"lora_up.weight": up, "lora_down.weight": down, "alpha": alpha})
    torch.testing.assert_close(module.delta(rand(3, 3)), up @ down * 0.5)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_factors_of_eight_bits_act_as_their_values(dtype: torch.dtype) -> None:
    up, down, alpha = (value.to(dtype) for value in (rand(3, 4), rand(4, 5), torch.tensor(2.0)))
    module = read({"lora_up.weight": up, "lora_down.weight": down, "alpha": alpha})
    torch.testing.assert_close(module.delta(rand(3, 5)), up.double() @ down.double() * 0.5)


def test_a_matrix_fits_a_convolution_of_one_pixel_and_the_other_way_round() -> None:
    up, down = rand(6, 2), rand(2, 5)
    flat = read({"lora_up.weight": up, "lora_down.weight": down})
    deep = read({"lora_up.weight": up[..., None, None], "lora_down.weight": down[..., None, None]})
    torch.testing.assert_close(flat.delta(rand(6, 5, 1, 1))[..., 0, 0], up @ down)
    torch.testing.assert_close(deep.delta(rand(6, 5)), up @ down)
    wide = read({"lora_up.weight": up, "lora_down.weight": down.new_ones(2, 45)})
    assert wide.delta(rand(6, 5, 3, 3)).shape == (6, 5, 3, 3)


def test_a_change_with_other_outputs_is_another_modules() -> None:
    """It may have as many elements as the weight; AUTOMATIC1111 reshapes it, and the module is spoilt."""
    up, down = rand(4, 2), rand(2, 6)
    module = read({"lora_up.weight": up, "lora_down.weight": down})
    torch.testing.assert_close(module.delta(rand(6, 4)), (up @ down).reshape(6, 4))
    with pytest.raises(ValueError, match="4 outputs for a weight of 6"):
        module.delta(rand(6, 4), reshape=False)


def test_tensors_that_mean_nothing_to_the_type_are_named() -> None:
    lora = {"lora_up.weight": rand(3, 2), "lora_down.weight": rand(2, 3), "alpha": rand(1)}
    assert read(lora).unread() == ()
    assert read({**lora, "lora_alpha": rand(1), "bias_values": rand(2)}).unread() == ("bias_values", "lora_alpha")
    assert read({"diff": rand(3), "diff_b": rand(3), "dora_scale": rand(3)}).unread() == ()


def test_oft_keeps_the_lengths_of_columns() -> None:
    """A rotation of the output channels; float32 inside, hence the tolerance."""
    weight, blocks = rand(8, 5), rand(2, 4, 4) * 0.3
    module = read({"oft_blocks": blocks})
    changed = weight + module.delta(weight)
    torch.testing.assert_close(changed.norm(dim=0), weight.norm(dim=0), rtol=1e-5, atol=1e-6)
    skew = blocks - blocks.transpose(-1, -2)
    eye = torch.eye(4, dtype=torch.float64)
    rotation = torch.block_diag(*((eye + q) @ torch.linalg.inv(eye - q) for q in skew))
    torch.testing.assert_close(changed, rotation.T @ weight, rtol=1e-4, atol=1e-5)


def test_oft_bounds_the_rotation_by_alpha_and_takes_old_blocks_as_they_are() -> None:
    weight, blocks = rand(8, 5), rand(2, 4, 4)
    free = read({"oft_blocks": blocks}).delta(weight).norm()
    bounded = read({"oft_blocks": blocks, "alpha": torch.tensor(1e-3)}).delta(weight).norm()
    assert bounded < free / 50
    diag = rand(2, 4, 4)
    turned = torch.block_diag(*diag).T @ weight
    torch.testing.assert_close(read({"oft_diag": diag}).delta(weight), turned - weight, rtol=1e-4, atol=1e-5)


def test_oft_rescales_output_channels() -> None:
    weight, rescale = rand(8, 5), rand(8, 1)
    module = read({"oft_blocks": torch.zeros(2, 4, 4), "rescale": rescale})
    torch.testing.assert_close(weight + module.delta(weight), rescale * weight, rtol=1e-5, atol=1e-5)


def skew(above: Tensor, size: int) -> Tensor:
    """The skew-symmetric matrix with these elements above its diagonal, row by row."""
    found, given = torch.zeros(size, size, dtype=torch.float64), iter(above.tolist())
    for row in range(size):
        for column in range(row + 1, size):
            found[row, column] = next(given)
    return found - found.T


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kernel", [(), (2, 2)])
def test_a_rotation_of_the_input_turns_each_run_of_inputs(kernel: tuple[int, ...], scaled: bool) -> None:
    weight = rand(4, 6, *kernel)
    above = rand(weight[0].numel() // 3, 3) * 0.02
    parts = {"oft_R.weight": above} | ({"oft_R.scaled_oft": torch.tensor(True)} if scaled else {})
    rotations = []
    for row in above / 3**0.5 if scaled else above:
        q, eye = skew(row, 3), torch.eye(3, dtype=torch.float64)
        rotations.append((eye + q) @ torch.linalg.inv(eye - q))
    rotation = torch.block_diag(*rotations)
    expected = weight.flatten(1) @ (rotation if kernel else rotation.T)
    changed = weight + read(parts).delta(weight)
    torch.testing.assert_close(changed.flatten(1), expected, rtol=1e-4, atol=1e-5)


def test_one_rotation_may_serve_all_inputs_and_norms_count_with_it() -> None:
    weight, above, norms = rand(4, 6), rand(1, 3) * 0.02, rand(4, 1).abs()
    q, eye = skew(above[0], 3), torch.eye(3, dtype=torch.float64)
    turn = (eye + q) @ torch.linalg.inv(eye - q)
    turned = weight @ torch.block_diag(turn, turn).T
    plain = read({"oft_R.weight": above, "alpha": torch.tensor(0.5)})
    torch.testing.assert_close(weight + plain.delta(weight), turned, rtol=1e-4, atol=1e-5)
    normed = weight + read({"oft_R.weight": above, "dora_scale": norms}).delta(weight)
    torch.testing.assert_close(normed, turned / turned.norm(dim=1, keepdim=True) * norms, rtol=1e-4, atol=1e-5)


def test_a_rotation_of_other_inputs_does_not_fit() -> None:
    with pytest.raises(ValueError, match="3 rotations of 3 inputs for a weight of 6"):
        read({"oft_R.weight": rand(3, 3)}).delta(rand(4, 6))
    with pytest.raises(ValueError, match="1 rotations of 4 inputs for a weight of 6"):
        read({"oft_R.weight": rand(1, 6)}).delta(rand(4, 6))
    with pytest.raises(ValueError, match="rotations of 8 outputs for a weight of 4"):
        read({"oft_blocks": rand(2, 4, 4)}).delta(rand(4, 6))
    with pytest.raises(ValueError, match="above a diagonal"):
        read({"oft_R.weight": rand(2, 4)}).delta(rand(4, 6))


def test_boft_is_a_chain_of_permuted_block_rotations() -> None:
    weight, blocks = rand(8, 3), rand(2, 4, 2, 2) * 0.3
    module = read({"oft_blocks": blocks})
    changed = weight + module.delta(weight)
    expected = weight
    eye = torch.eye(2, dtype=torch.float64)
    for stage, distance in ((0, 1), (1, 2)):
        # pairs (i, i + distance) are turned together
        pairs = [
            (c * 2 * distance + k, c * 2 * distance + distance + k)
            for c in range(4 // distance)
            for k in range(distance)
        ]
        step = expected.clone()
        for n, (i, j) in enumerate(pairs):
            q = blocks[stage, n] - blocks[stage, n].T
            turned = (eye + q) @ torch.linalg.inv(eye - q) @ expected[[i, j]]
            step[i], step[j] = turned[0], turned[1]
        expected = step
    torch.testing.assert_close(changed, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_dora_brings_the_changed_weight_to_the_learned_norms(axis: int) -> None:
    weight, up, down = rand(6, 5), rand(6, 2), rand(2, 5)
    norms = rand(6, 1).abs() if axis == 0 else rand(1, 5).abs()
    module = read({"lora_up.weight": up, "lora_down.weight": down, "dora_scale": norms})
    changed = weight + module.delta(weight)
    torch.testing.assert_close(changed.norm(dim=1 - axis, keepdim=True), norms)
    direction = weight + up @ down
    torch.testing.assert_close(
        changed / changed.norm(dim=1 - axis, keepdim=True), direction / direction.norm(dim=1 - axis, keepdim=True)
    )


def test_changes_come_in_the_weights_dtype() -> None:
    lora = read({"lora_up.weight": rand(3, 2), "lora_down.weight": rand(2, 3)})
    oft = read({"oft_blocks": rand(1, 3, 3)})
    for dtype in (torch.float16, torch.bfloat16):
        assert lora.delta(torch.ones(3, 3, dtype=dtype)).dtype == dtype
        assert oft.delta(torch.ones(3, 3, dtype=dtype)).dtype == dtype


def test_unknown_weights_are_nothing() -> None:
    assert module_from({"lora_up.weight": rand(2, 2)}) is None
    assert module_from({}) is None
