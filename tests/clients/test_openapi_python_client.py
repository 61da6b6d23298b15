"""A Python client made by openapi-python-client, as the guide says."""

from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.clients.conftest import installed, run
from tests.docs.test_examples import blocks
from tests.reference_server import ReferenceServer

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "generate-a-client.md"


@pytest.fixture(scope="module")
def made(document: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the package ``latentd_client``; a warning of the generator is an error."""
    folder = tmp_path_factory.mktemp("python-client")
    (settings,) = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    # Without formatting the client, which takes longer than making it.
    (folder / "client.yaml").write_text(settings + "post_hooks: []\n", encoding="utf-8")
    command = [installed("openapi-python-client"), "generate", "--path", document, "--meta", "none"]
    run(*command, "--config", folder / "client.yaml", "--output-path", folder / "latentd_client", "--fail-on-warning")
    return folder


@pytest.fixture
def client(made: Path, reference_server: ReferenceServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The made package's client of the server."""
    monkeypatch.syspath_prepend(made)
    import latentd_client

    return latentd_client.Client(reference_server.url, timeout=None)


def test_every_module_can_be_imported(made: Path) -> None:
    modules = [path.relative_to(made).with_suffix("").as_posix() for path in made.glob("latentd_client/**/*.py")]
    assert len(modules) > 100
    names = sorted({name.removesuffix("/__init__").replace("/", ".") for name in modules})
    run(sys.executable, "-W", "error", "-c", "".join(f"import {name}\n" for name in names), cwd=made)


def test_the_guides_program_draws(made: Path, reference_server: ReferenceServer, tmp_path: Path) -> None:
    program = blocks("how-to/generate-a-client.md")["draw.py"]
    for said, meant in (("http://127.0.0.1:7860", reference_server.url), ("steps=20", "steps=2"), ("128", "64")):
        assert said in program
        program = program.replace(said, meant)
    (made / "draw.py").write_text(program, encoding="utf-8")
    run(sys.executable, made / "draw.py", cwd=tmp_path)
    with Image.open(tmp_path / "sunflower.png") as image:
        assert image.size == (64, 64)
        assert "sunflower" in image.text["parameters"]  # type: ignore[attr-defined]


def test_a_job(client: Any) -> None:
    from latentd_client import models
    from latentd_client.api.jobs import get_job, get_job_image, list_jobs, submit_job

    body = models.Txt2ImgJob(prompt="a sunflower", steps=1, width=64, height=64, seed=1)
    accepted = submit_job.sync(client=client, body=body)
    assert isinstance(accepted, models.JobAccepted)
    end = time.monotonic() + 60
    while (job := get_job.sync(accepted.id, client=client)).state != "completed":
        assert job.state in ("queued", "running"), job
        assert time.monotonic() < end
        time.sleep(0.05)
    (picture,) = job.images
    assert (picture.width, picture.height, picture.seed, picture.role) == (64, 64, 1, "image")
    file = get_job_image.sync(accepted.id, 0, client=client)
    assert Image.open(io.BytesIO(file.payload.read())).size == (64, 64)
    assert accepted.id in [entry.id for entry in list_jobs.sync(client=client).jobs]


def test_options_and_lists(client: Any) -> None:
    from latentd_client import models
    from latentd_client.api.lists import get_samplers_sdapi_v1_samplers_get as samplers
    from latentd_client.api.models import get_sd_models_sdapi_v1_sd_models_get as checkpoints
    from latentd_client.api.options import (
        get_config_sdapi_v1_options_get as get_config,
    )
    from latentd_client.api.options import (
        set_config_sdapi_v1_options_post as set_config,
    )

    before = get_config.sync(client=client)
    assert isinstance(before, models.Options)
    set_config.sync(client=client, body=models.Options(clip_stop_at_last_layers=2))
    after = get_config.sync(client=client)
    assert after.clip_stop_at_last_layers == 2
    changed = {key for key, value in after.to_dict().items() if before.to_dict()[key] != value}
    assert changed == {"CLIP_stop_at_last_layers"}, "the client sent what its caller had named, and nothing else"
    set_config.sync(client=client, body=models.Options(clip_stop_at_last_layers=before.clip_stop_at_last_layers))
    assert "Euler a" in [sampler.name for sampler in samplers.sync(client=client)]
    assert "tiny-a.safetensors" in [row.title.partition(" ")[0] for row in checkpoints.sync(client=client)]


def test_errors_are_read(client: Any) -> None:
    from latentd_client import models
    from latentd_client.api.generation import text2imgapi_sdapi_v1_txt2img_post as txt2img

    body = models.StableDiffusionProcessingTxt2Img(sampler_name="nope")
    assert txt2img.sync(client=client, body=body).detail == "Sampler not found"
    wrong_field = models.StableDiffusionProcessingTxt2Img(width="wide")
    (entry,) = txt2img.sync(client=client, body=wrong_field).detail
    assert (entry.loc, entry.type_) == (["body", "width"], "type_error.integer")
