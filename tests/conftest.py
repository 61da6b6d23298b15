"""What every test shares: the fixture that plugin authors get, and an environment free of the machine's own flags."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from latentd.testing import latentd_app
from tests.reference_server import ReferenceServer, start_reference_server

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

__all__ = ["latentd_app"]

pytest.register_assert_rewrite("tests.compat")

TESTS = Path(__file__).parent
REFERENCE = TESTS / "reference"
#: Folders whose files share servers or take long: they come first, in this order.
FIRST = ("parity", "compat", "clients", "docs", "faults", "e2e", "api", "devices")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files that share a server next to one another; see :mod:`tests.both_ends`."""
    places = {TESTS / name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.parent, len(FIRST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """Hand out files from both ends of that order; None leaves it to the other ways of ``--dist``."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.both_ends import FromBothEnds

    config.option.loadscopereorder = False
    return FromBothEnds(config, log)


@pytest.fixture(autouse=True, scope="session")
def _no_flags_from_outside() -> None:
    for name in [name for name in os.environ if name.startswith("LATENTD_") or name == "COMMANDLINE_ARGS"]:
        del os.environ[name]


@pytest.fixture(scope="session")
def reference_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of AUTOMATIC1111's shape with tiny but real files of every kind; shared, so leave it as it is."""
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run([sys.executable, REFERENCE / "assemble.py", folder], check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with random models that draw a picture in a tenth of a second; shared, so leave it as it is.

    Checkpoints ``base`` and ``other`` differ in UNet and VAE, and ``base.json`` names the VAE ``third`` as its own. The
    LoRA ``words`` changes the text encoder alone, ``lines`` the UNet alone.
    """
    import torch

    from latentd.testing import tiny_models

    folder = tmp_path_factory.mktemp("tiny")
    models = folder / "models"
    text = tiny_models.under("cond_stage_model.transformer.", tiny_models.clip())
    for number, name in enumerate(("base", "other")):
        unet = tiny_models.under("model.diffusion_model.", tiny_models.unet(tiny_models.TinyUNet(), seed=number))
        vae = tiny_models.under("first_stage_model.", tiny_models.vae(10 + number, tiny_models.EIGHTH))
        tiny_models.write(models / "Stable-diffusion" / f"{name}.safetensors", unet | vae | text)
    for number, name in enumerate(("third", "fourth")):
        tiny_models.write(models / "VAE" / f"{name}.safetensors", tiny_models.vae(20 + number, tiny_models.EIGHTH))
    (models / "Stable-diffusion" / "base.json").write_text(json.dumps({"vae": "third.safetensors"}))
    changed = {
        "words": [(f"te_text_model_encoder_layers_{layer}_self_attn_v_proj", 32, 32) for layer in range(3)],
        "lines": [("unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_v", 64, 32)],
    }
    generator = torch.Generator().manual_seed(40)
    for name, modules in changed.items():
        network: tiny_models.Weights = {}
        for module, rows, columns in modules:
            network[f"lora_{module}.lora_down.weight"] = torch.randn(4, columns, generator=generator)
            network[f"lora_{module}.lora_up.weight"] = torch.randn(rows, 4, generator=generator)
        tiny_models.write(models / "Lora" / f"{name}.safetensors", network)
    return folder


@pytest.fixture(scope="session")
def reference_server(reference_data: Path) -> Iterator[ReferenceServer]:
    """A server process on :func:`reference_data`, drawing with torch's CPU noise; one for the whole run."""
    with start_reference_server(reference_data) as server:
        yield server
