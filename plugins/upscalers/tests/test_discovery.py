"""What is listed, by folder, option and file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import latentd_upscalers
import pytest
import torch
from latentd_upscalers.discovery import find_upscalers
from latentd_upscalers.families import FAMILIES

from latentd.api import ModelFile, NotConfigured, WorkerContext
from latentd.testing import check_hooks


def put(services, folder: str, name: str) -> Path:
    path = services.paths.models(folder)[0] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"nothing": 1}, path)
    return path


def named(services):
    return {spec.name: spec for spec in find_upscalers(services)}


def test_the_host_takes_it_in_and_no_torch_comes_with_it(services, tiny):
    assert check_hooks(latentd_upscalers).problems() == {}
    code = """
import sys
from latentd.testing import HeadlessServices
import latentd_upscalers
found = {spec.name: spec.scale for spec in latentd_upscalers.register_upscalers(HeadlessServices())}
assert found["TinyRRDB_x4"] == 4.0, found
assert not [name for name in ("torch", "spandrel") if name in sys.modules]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_list_is_the_originals(latentd_app, tiny, recorded):
    client = latentd_app(plugins=[latentd_upscalers])
    rows = client.get("/sdapi/v1/upscalers").json()
    assert rows == [
        row | {"model_path": str(tiny)} if row["name"] == tiny.stem else row
        for row in json.loads((recorded / "upscalers.json").read_text())
    ]
    models = client.get("/sdapi/v1/realesrgan-models").json()
    assert models == json.loads((recorded / "realesrgan-models.json").read_text())


def test_the_core_lists_the_same_real_esrgan_models_as_are_known_here(latentd_app):
    listed = {row["name"]: row["path"] for row in latentd_app().get("/sdapi/v1/realesrgan-models").json()}
    family = next(family for family in FAMILIES if family.folder == "RealESRGAN")
    assert {known.name: known.url for known in family.known} == listed


@pytest.mark.parametrize("name", ["4x-Sharp.pth", "below/4x-Sharp.pt", "4x-Sharp.safetensors"])
@pytest.mark.parametrize("folder", ["ESRGAN", "RealESRGAN", "DAT", "BSRGAN", "HAT", "ScuNET", "SwinIR"])
def test_files_are_listed_by_their_stems(services, folder, name):
    path = put(services, folder, name)
    spec = named(services)["4x-Sharp"]
    assert spec.model_path == str(path)
    assert spec.family == folder
    assert spec.scale == (None if folder == "DAT" else 4.0)


def test_a_known_model_keeps_its_name_when_its_file_is_there(services):
    path = put(services, "RealESRGAN", "RealESRGAN_x4plus.pth")
    assert named(services)["R-ESRGAN 4x+"].model_path == str(path)
    assert "RealESRGAN_x4plus" not in named(services)
    path = put(services, "ScuNET", "ScuNET PSNR.pth")
    assert named(services)["ScuNET PSNR"].model_path == str(path)


def test_models_of_options_and_of_empty_folders(services):
    assert {"ESRGAN_4x", "SwinIR 4x", "ScuNET GAN", "ScuNET PSNR", "LDSR"} <= set(named(services))
    assert "R-ESRGAN 2x+" not in named(services)
    services.options.update({"realesrgan_enabled_models": ["R-ESRGAN 2x+"], "dat_enabled_models": []})
    names = set(named(services))
    assert "R-ESRGAN 2x+" in names
    assert not {"R-ESRGAN 4x+", "DAT x4"} & names
    for folder in ("ESRGAN", "SwinIR", "ScuNET"):
        put(services, folder, f"own-{folder}.pth")
    names = set(named(services))
    assert not {"ESRGAN_4x", "SwinIR 4x", "ScuNET GAN"} & names
    assert {"own-ESRGAN", "own-SwinIR", "own-ScuNET", "ScuNET PSNR"} <= names


def test_a_file_that_comes_later_is_found_at_its_use(services):
    spec = named(services)["DAT x4"]
    with pytest.raises(NotConfigured):
        spec.check()
    put(services, "DAT", "below/DAT_x4.pth")
    spec.check()


def test_one_name_is_listed_once_and_the_cores_are_left_to_it(services, caplog):
    first = put(services, "ESRGAN", "same.pth")
    put(services, "HAT", "same.pth")
    put(services, "ESRGAN", "Lanczos.pth")
    found = [spec for spec in find_upscalers(services) if spec.name in ("same", "Lanczos")]
    assert [spec.model_path for spec in found] == [str(first)]
    assert "the name is taken" in caplog.text


def test_an_upscaler_that_a_package_carries(services, recorded):
    path = recorded / "TinyRRDB_x4.pth"
    services.registry.checkpoints.add("pack", [ModelFile(path=path, name="Packed.pth", kind="upscaler")])
    services.registry.checkpoints.add("pack", [ModelFile(path=path, name="other.pth", kind="vae")])
    assert named(services)["Packed"].model_path == str(path)
    assert "other" not in named(services)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("R-ESRGAN 4x+", "'R-ESRGAN 4x+' has no model file: RealESRGAN_x4plus.pth is missing in {models}/RealESRGAN"),
        ("SwinIR 4x", "SwinIR-L_x4_GAN.pth is missing in {models}/SwinIR"),
        ("LDSR", "listed for clients of AUTOMATIC1111 and is not offered"),
    ],
)
def test_what_has_no_file_says_so_before_and_at_its_use(services, name, words):
    spec = named(services)[name]
    words = words.format(models=services.paths.data / "models")
    for use in (spec.check, lambda: spec.upscale(None, 2, WorkerContext(options={}))):
        with pytest.raises(NotConfigured) as caught:
            use()
        assert words in caught.value.detail
        assert caught.value.hint
