from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentd.errors import ModelLoadError
from latentd.models.files.safetensors_header import read_header
from latentd.networks.contents import read_network
from latentd.networks.files import NetworkLibrary, NetworkOnDisk, network_digest, read_metadata
from latentd.networks.spellings import module_name

Save = Callable[..., NetworkOnDisk]

CONV_IN = module_name("lora_unet_conv_in")
WEIGHTS = {"lora_unet_conv_in.lora_up.weight": torch.ones(2, 1), "lora_unet_conv_in.lora_down.weight": torch.ones(1, 2)}


def test_aliases_come_from_the_training_name(tmp_path: Path, save: Save) -> None:
    net = save("file", WEIGHTS, ss_output_name="my name", ss_tag_frequency='{"a": {"b": 1}}', odd="{broken")
    library = NetworkLibrary([tmp_path, tmp_path / "missing"])
    assert net.alias == "my name"
    assert library.find("my name") == library.find("file") == net
    assert net.metadata["ss_tag_frequency"] == {"a": {"b": 1}}
    assert net.metadata["odd"] == "{broken"
    assert library.find("other") is None


def test_a_shared_alias_and_none_need_the_file_name(tmp_path: Path, save: Save) -> None:
    save("one", WEIGHTS, ss_output_name="same")
    save("two", WEIGHTS, ss_output_name="same")
    save("three", WEIGHTS, ss_output_name="None")
    library = NetworkLibrary([tmp_path])
    assert library.find("same") is None
    assert library.find("None") is None
    two, three = library.find("two"), library.find("three")
    assert two is not None
    assert two.name == "two"
    assert three is not None
    assert [net.name for net in library.list()] == ["one", "three", "two"]


@pytest.mark.parametrize(
    "name", ["My Style", "my style", "MyStyle_v2.safetensors", "mystyle_V2", "sub\\MyStyle_v2", "a/MyStyle_v2"]
)
def test_another_spelling_finds_the_only_file_that_fits(tmp_path: Path, save: Save, name: str) -> None:
    net = save("MyStyle_v2", WEIGHTS, ss_output_name="My Style")
    save("other", WEIGHTS)
    assert NetworkLibrary([tmp_path]).find(name) == net


def test_a_spelling_that_fits_two_files_finds_none(tmp_path: Path, save: Save) -> None:
    small, large = save("style", WEIGHTS), save("STYLE", WEIGHTS)
    library = NetworkLibrary([tmp_path])
    assert (library.find("style"), library.find("STYLE"), library.find("Style")) == (small, large, None)


def test_the_hash_ignores_the_header(tmp_path: Path, save: Save) -> None:
    plain, noted = save("plain", WEIGHTS), save("noted", WEIGHTS, note="x" * 300)
    assert network_digest(plain.path) == network_digest(noted.path)
    data = plain.path.read_bytes()
    body = data[8 + int.from_bytes(data[:8], "little") :]
    assert NetworkLibrary([tmp_path]).short_hash(plain) == hashlib.sha256(body).hexdigest()[:12]
    pickled = tmp_path / "old.pt"
    pickled.write_bytes(b"anything")
    assert network_digest(pickled) == hashlib.sha256(b"anything").hexdigest()


def test_a_hash_in_the_metadata_wins(tmp_path: Path, save: Save) -> None:
    net = save("file", WEIGHTS, sshs_model_hash="0123456789abcdef")
    assert NetworkLibrary([tmp_path]).short_hash(net) == "0123456789ab"


def test_refresh_sees_new_and_changed_files(tmp_path: Path, save: Save) -> None:
    library = NetworkLibrary([tmp_path])
    assert library.list() == []
    save("sub", WEIGHTS, ss_output_name="before")
    library.refresh()
    assert library.find("before") is not None
    save("sub", WEIGHTS, ss_output_name="afterwards")
    library.refresh()
    assert library.find("before") is None
    assert library.find("afterwards") is not None


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 8 + b"{}", (5).to_bytes(8, "little") + b"{nope", (2).to_bytes(8, "little") + b"[]"]
)
def test_hostile_headers_are_refused_and_read_as_no_metadata(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelLoadError):
        read_header(path)
    assert read_metadata(path) == {}
    with pytest.raises(ModelLoadError):
        read_network(path)
    assert [net.alias for net in NetworkLibrary([tmp_path]).list()] == ["bad"]


def test_deeply_nested_metadata_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "deep.safetensors"
    save_file(WEIGHTS, path, metadata={"deep": '{"a":' * 100_000})
    assert read_metadata(path)["deep"].startswith('{"a":')
    json.dumps(read_metadata(path))


def test_tensors_are_grouped_by_module_and_embeddings_set_apart(save: Save) -> None:
    net = save(
        "file",
        {
            **WEIGHTS,
            "bundle_emb.my.style.clip_l": torch.ones(2, 3),
            "bundle_emb.word.string_to_param.*": torch.ones(1, 3),
        },
    )
    contents = read_network(net.path)
    assert {name: set(weights) for name, weights in contents.modules.items()} == {
        CONV_IN: {"lora_up.weight", "lora_down.weight"}
    }
    assert set(contents.embeddings) == {"my.style", "word"}
    assert contents.embeddings["my.style"]["clip_l"].shape == (2, 3)
    assert contents.embeddings["word"]["string_to_param"]["*"].shape == (1, 3)


class Harmful:
    """What a pickle could have run."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("true",)


def test_pickles_are_read_through_the_restricted_unpickler(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.pt", tmp_path / "bad.pt"
    torch.save({"state_dict": WEIGHTS}, good)
    assert set(read_network(good).modules) == {CONV_IN}
    torch.save({"x": Harmful()}, bad)
    with pytest.raises(ModelLoadError):
        read_network(bad)


@pytest.mark.parametrize("ending", [".pt", ".ckpt", ".bin"])
def test_pickles_are_listed_under_every_ending_of_theirs(tmp_path: Path, ending: str) -> None:
    """diffusers saved LoRAs as ``pytorch_lora_weights.bin`` until 2023."""
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora"
    torch.save(
        {f"{name}.down.weight": torch.ones(2, 4), f"{name}.up.weight": torch.ones(4, 2)}, tmp_path / f"x{ending}"
    )
    net = NetworkLibrary([tmp_path]).find("x")
    assert net is not None
    (weights,) = read_network(net.path).modules.values()
    assert sorted(weights) == ["lora_down.weight", "lora_up.weight"]


@pytest.mark.parametrize("alpha", [2, 0.5])
def test_alpha_may_be_a_plain_number_in_a_pickle(tmp_path: Path, alpha: float) -> None:
    torch.save({**WEIGHTS, "lora_unet_conv_in.alpha": alpha, "epoch": 3}, tmp_path / "plain.pt")
    modules = read_network(tmp_path / "plain.pt").modules
    assert [weights["alpha"].item() for weights in modules.values() if "alpha" in weights] == [alpha]


@pytest.mark.parametrize("alpha", [10**400, -(10**400), float("nan")])
def test_an_alpha_that_is_no_number_is_refused(tmp_path: Path, alpha: float) -> None:
    torch.save({**WEIGHTS, "lora_unet_conv_in.alpha": alpha}, tmp_path / "spoilt.pt")
    with pytest.raises(ModelLoadError, match=r"no number .* in lora_unet_conv_in\.alpha"):
        read_network(tmp_path / "spoilt.pt")


def test_what_only_has_the_name_of_a_safetensors_file_is_hashed_whole(tmp_path: Path) -> None:
    pointer = tmp_path / "pointer.safetensors"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert network_digest(pointer) == hashlib.sha256(pointer.read_bytes()).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_weights_that_are_no_number_are_refused(save: Save, value: float, dtype: torch.dtype) -> None:
    spoilt = torch.ones(2, 3)
    spoilt[1, 2] = value
    net = save("spoilt", {**WEIGHTS, "lora_unet_conv_out.lora_down.weight": spoilt.to(dtype)})
    with pytest.raises(ModelLoadError, match=r"spoilt\.safetensors .* no number .* in lora_unet_conv_out"):
        read_network(net.path)


def test_two_adapters_in_one_file_are_refused(save: Save) -> None:
    keys = [f"unet.conv_in.lora_{side}.{name}.weight" for side in "AB" for name in ("default", "style")]
    net = save("two", {key: torch.ones(1, 2) for key in keys})
    with pytest.raises(ModelLoadError, match=r"says the same twice, as .*default.* and as .*style"):
        read_network(net.path)


def test_a_safetensors_file_named_as_a_pickle_is_read(save: Save) -> None:
    net = save("renamed", WEIGHTS)
    other = net.path.with_suffix(".pt")
    net.path.rename(other)
    assert set(read_network(other).modules) == {CONV_IN}
