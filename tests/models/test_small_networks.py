"""TAESD and the network for previews, from files in their authors' key layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from latentd.errors import ModelLoadError
from latentd.models.approx_nn import approx_nn_file, linear_picture, load_approx_nn
from latentd.models.taesd import TaesdPart, load_taesd, taesd_file

CPU, F32 = torch.device("cpu"), torch.float32


def taesd_weights(way: TaesdPart) -> dict[str, Tensor]:
    """Random weights under the keys of taesd_decoder.pth and taesd_encoder.pth, spelled from the files themselves."""
    random = torch.Generator().manual_seed(4)
    decoder_blocks, decoder_plain = [3, 4, 5, 8, 9, 10, 13, 14, 15, 18], [7, 12, 17]
    encoder_blocks, encoder_plain = [1, 3, 4, 5, 7, 8, 9, 11, 12, 13], [2, 6, 10]
    blocks, plain = (decoder_blocks, decoder_plain) if way == "decoder" else (encoder_blocks, encoder_plain)
    ends = {1: (64, 4), 19: (3, 64)} if way == "decoder" else {0: (64, 3), 14: (4, 64)}
    shapes: dict[str, tuple[int, ...]] = {}
    for place, (out, into) in ends.items():
        shapes |= {f"{place}.weight": (out, into, 3, 3), f"{place}.bias": (out,)}
    for place in plain:
        shapes[f"{place}.weight"] = (64, 64, 3, 3)
    for place in blocks:
        for inner in (0, 2, 4):
            shapes |= {f"{place}.conv.{inner}.weight": (64, 64, 3, 3), f"{place}.conv.{inner}.bias": (64,)}
    return {key: torch.randn(shape, generator=random) * 0.03 for key, shape in shapes.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for way in ("decoder", "encoder"):
        torch.save(taesd_weights(way), tmp_path / f"taesd_{way}.pth")  # type: ignore[arg-type]
    return tmp_path


def test_the_decoder_agrees_with_diffusers_tiny_autoencoder(folder: Path) -> None:
    from diffusers import AutoencoderTiny

    latents = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(1)) * 2
    theirs = AutoencoderTiny()
    # Theirs has no layer for the clamp, so its places are one lower.
    named = {
        f"{int(place) - 1}.{rest}": value
        for key, value in taesd_weights("decoder").items()
        for place, _, rest in [key.partition(".")]
    }
    theirs.decoder.layers.load_state_dict(named)
    with torch.no_grad():
        ours = load_taesd(folder / "taesd_decoder.pth", "decoder", CPU, F32)(latents)
        assert ours.shape == (1, 3, 48, 40)
        torch.testing.assert_close(ours * 2 - 1, theirs.decoder(latents))


def test_the_encoder_agrees_with_diffusers_tiny_autoencoder(folder: Path) -> None:
    from diffusers import AutoencoderTiny

    pictures = torch.rand(1, 3, 48, 40, generator=torch.Generator().manual_seed(1))
    theirs = AutoencoderTiny()
    theirs.encoder.layers.load_state_dict(taesd_weights("encoder"))
    with torch.no_grad():
        ours = load_taesd(folder / "taesd_encoder.pth", "encoder", CPU, F32)(pictures)
        assert ours.shape == (1, 4, 6, 5)
        torch.testing.assert_close(ours, theirs.encoder(pictures * 2 - 1))


def test_a_file_of_another_network_is_refused(folder: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"taesd_encoder\.pth is no TAESD decoder"):
        load_taesd(folder / "taesd_encoder.pth", "decoder", CPU, F32)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (print, ("ran",))

    torch.save({"0.weight": Evil()}, tmp_path / "taesd_decoder.pth")
    with pytest.raises(ModelLoadError):
        load_taesd(tmp_path / "taesd_decoder.pth", "decoder", CPU, F32)


def approx_weights() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(5)
    widths, kernels = (4, 8, 16, 32, 64, 32, 16, 8, 3), (7, 5, 3, 3, 3, 3, 3, 3)
    weights = {}
    for n, kernel in enumerate(kernels, 1):
        shape = (widths[n], widths[n - 1], kernel, kernel)
        weights[f"conv{n}.weight"] = torch.randn(shape, generator=random) * 0.1
        weights[f"conv{n}.bias"] = torch.randn(widths[n], generator=random) * 0.1
    return weights


def test_the_preview_network_gives_pictures_of_twice_the_latents_size(tmp_path: Path) -> None:
    weights = approx_weights()
    torch.save(weights, tmp_path / "model.pt")
    latents = torch.randn(1, 4, 5, 7, generator=torch.Generator().manual_seed(1))
    x = torch.nn.functional.pad(latents.repeat_interleave(2, -1).repeat_interleave(2, -2), (11, 11, 11, 11))
    for n in range(1, 9):
        x = torch.nn.functional.conv2d(x, weights[f"conv{n}.weight"], weights[f"conv{n}.bias"])
        x = torch.where(x > 0, x, 0.1 * x)
    with torch.no_grad():
        out = load_approx_nn(tmp_path / "model.pt", CPU, F32)(latents)
    assert out.shape == (1, 3, 10, 14)
    torch.testing.assert_close(out, x)


def test_the_linear_map_gives_latent_sized_pictures() -> None:
    latent = torch.zeros(4, 2, 3)
    assert torch.equal(linear_picture(latent, sdxl=False), torch.full((3, 2, 3), 0.5))
    latent[0] = 1.0
    torch.testing.assert_close(
        linear_picture(latent, sdxl=False)[:, 0, 0], torch.tensor([0.298, 0.207, 0.208]) / 2 + 0.5
    )
    assert not torch.equal(linear_picture(latent, sdxl=True), linear_picture(latent, sdxl=False))


def test_file_names_are_a1111s() -> None:
    assert (taesd_file("decoder", sdxl=False), taesd_file("encoder", sdxl=True)) == (
        "taesd_decoder.pth",
        "taesdxl_encoder.pth",
    )
    assert (approx_nn_file(sdxl=False), approx_nn_file(sdxl=True)) == ("model.pt", "vaeapprox-sdxl.pt")
