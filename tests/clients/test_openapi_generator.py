"""Clients made by openapi-generator: Python, and TypeScript on fetch."""

from __future__ import annotations

import io
import shutil
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.clients.conftest import installed, run
from tests.clients.typescript import needs_typescript, picture_of
from tests.reference_server import ReferenceServer

pytest.importorskip("openapi_generator_cli")
# Half a minute each: a Java machine, and a client of hundreds of files.
pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("java") is None, reason="the generator runs on Java")]


def make(generator: str, document: Path, folder: Path, *options: str) -> Path:
    """``folder`` with the client that openapi-generator makes of the document, which it has to find valid."""
    run(installed("openapi-generator-cli"), "generate", "-i", document, "-g", generator, "-o", folder, *options)
    return folder


@pytest.fixture(scope="module")
def python_client(document: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("python", document, tmp_path_factory.mktemp("openapi-generator"))


def test_every_module_can_be_imported(python_client: Path) -> None:
    modules = [path.relative_to(python_client).with_suffix("") for path in python_client.glob("openapi_client/**/*.py")]
    assert len(modules) > 100
    names = sorted({".".join(path.parts).removesuffix(".__init__") for path in modules})
    run(sys.executable, "-c", "".join(f"import {name}\n" for name in names), cwd=python_client)


def test_the_python_client_draws(
    python_client: Path, reference_server: ReferenceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(python_client)
    import openapi_client as made

    with made.ApiClient(made.Configuration(host=reference_server.url)) as client:
        body: Any = made.StableDiffusionProcessingTxt2Img(prompt="a sunflower", steps=1, width=64, height=64)
        reply = made.GenerationApi(client).text2imgapi_sdapi_v1_txt2img_post(body)
        assert Image.open(io.BytesIO(b64decode(reply.images[0]))).size == (64, 64)
        assert made.OptionsApi(client).get_config_sdapi_v1_options_get().samples_format == "png"
        assert made.JobsApi(client).list_jobs().jobs[-1].state == "completed"


@needs_typescript
def test_the_typescript_client_compiles_and_draws(
    document: Path, reference_server: ReferenceServer, tmp_path: Path
) -> None:
    make("typescript-fetch", document, tmp_path / "client")
    program = """
        import { Configuration, GenerationApi } from "./client/index";

        async function main(): Promise<void> {
          const api = new GenerationApi(new Configuration({ basePath: process.argv[2] }));
          const body = { prompt: "a sunflower", steps: 1, width: 64, height: 64 };
          const reply = await api.text2imgapiSdapiV1Txt2imgPost({ stableDiffusionProcessingTxt2Img: body });
          console.log(reply.images[0]);
        }

        main();
    """
    assert picture_of(program, tmp_path, reference_server.url).size == (64, 64)
