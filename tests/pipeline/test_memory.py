"""What a generation needs of memory, and what there is."""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from tests.pipeline.conftest import Draw, drawing_on, services_on

from latentd.api import hookimpl
from latentd.engine.executor import Engine
from latentd.errors import LatentdError, TooLarge
from latentd.images.codecs import encode_base64
from latentd.models import free_memory as found
from latentd.models.free_memory import GIBIBYTE
from latentd.pipeline.memory import check_upscale, unet_bytes
from latentd.server.app import create_app
from latentd.server.services import AppServices
from latentd.services import UpscalerSpec, WorkerContext
from latentd.settings import parse_settings

SD15 = (320, "CrossAttnDownBlock2D")
SDXL = (320, "DownBlock2D")


def model(kind: tuple[int, str], dtype: torch.dtype) -> Any:
    config = SimpleNamespace(block_out_channels=(kind[0], 2 * kind[0]), down_block_types=(kind[1],))
    return SimpleNamespace(unet=SimpleNamespace(config=config), dtype=dtype)


@pytest.mark.parametrize(
    ("kind", "dtype", "width", "height", "rows", "low", "high"),
    [
        (SD15, torch.float32, 512, 512, 2, 0.1, 0.5),
        (SD15, torch.float32, 4096, 4096, 2, 8.0, 40.0),
        (SD15, torch.float32, 512, 512, 512, 20.0, 80.0),
        (SD15, torch.float16, 512, 768, 2, 0.05, 0.4),
        (SDXL, torch.float16, 1024, 1024, 2, 0.1, 1.0),
    ],
)
def test_the_estimate_is_of_the_right_size(
    kind: tuple[int, str], dtype: torch.dtype, width: int, height: int, rows: int, low: float, high: float
) -> None:
    assert low < unet_bytes(model(kind, dtype), width, height, rows) / GIBIBYTE < high


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({"width": 1024, "height": 1024}, "1 x 1024x1024"),
        ({"batch_size": 64}, "64 x 64x64"),
        ({"enable_hr": True, "hr_upscaler": "Latent", "hr_scale": 8.0}, "1 x 512x512"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_next_one_drawn(
    draw: Draw, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], needs: str
) -> None:
    monkeypatch.setattr("latentd.models.free_memory.free_memory", lambda device=None: 30 << 20)
    with pytest.raises(TooLarge, match=needs):
        draw(**fields)
    assert len(draw(steps=1).images) == 1


@pytest.mark.parametrize(
    ("size", "scale", "native", "largest"),
    [
        ((2000, 1000), 4.0, 4.0, "8000x4000"),
        ((4000, 3000), 1.1, 4.0, "16000x12000"),
        ((1000, 1000), 5.0, 4.0, "16000x16000"),
        ((4000, 4000), 2.0, None, "8000x8000"),
        ((8000, 8000), 1.0, 1.0, "8000x8000"),
    ],
)
def test_what_is_made_on_the_way_of_an_upscaler_counts(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], scale: float, native: float | None, largest: str
) -> None:
    width, height = map(int, largest.split("x"))
    monkeypatch.setattr("latentd.models.free_memory.free_memory", lambda device=None: 8 * width * height)
    check_upscale(size, scale, native)
    monkeypatch.setattr("latentd.models.free_memory.free_memory", lambda device=None: 8 * width * height - 1)
    with pytest.raises(TooLarge, match=f"enlarging {size[0]}x{size[1]} to {largest} needs at least"):
        check_upscale(size, scale, native)


class Fourfold:
    """A plugin with an upscaler of factor 4, and how often it ran."""

    def __init__(self) -> None:
        self.runs = 0

    @hookimpl
    def register_upscalers(self) -> list[UpscalerSpec]:
        def upscale(image: Image.Image, scale: float, context: WorkerContext) -> Image.Image:
            self.runs += 1
            return image.resize((image.width * 4, image.height * 4))

        return [UpscalerSpec(name="Fourfold", upscale=upscale)]


def test_hires_with_an_upscaler_that_does_not_fit_is_refused_before_the_first_pass(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = Fourfold()
    services = services_on(data, plugins=[("fourfold", plugin)])
    draw = drawing_on(services)
    hires = {"enable_hr": True, "hr_upscaler": "Fourfold", "hr_scale": 5.0, "steps": 1}
    monkeypatch.setattr("latentd.models.free_memory.free_memory", lambda device=None: 8 * 1024 * 1024 - 1)
    monkeypatch.setattr("latentd.pipeline.memory.unet_bytes", lambda *given: 0)
    with pytest.raises(TooLarge, match="enlarging 64x64 to 1024x1024"):
        draw(**hires)
    assert plugin.runs == 0
    services.close()


def test_nobody_knows_how_much_there_is(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentd.models.free_memory.free_memory", lambda device=None: None)
    assert len(draw(steps=1).images) == 1


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_control_groups_of_both_versions(tmp_path: Path) -> None:
    root, membership = tmp_path / "cgroup", tmp_path / "self"
    stat = "anon 5\ninactive_file 30\ntotal_inactive_file 40\n"
    group(root / "a", memory__max="1000\n", memory__current="200\n", memory__stat=stat)
    group(root / "a" / "b", memory__max="max\n", memory__current="200\n", memory__stat=stat)
    membership.write_text("0::/a/b\n")
    assert list(found._of_groups(membership, root)) == [830]
    group(root / "memory", memory__limit_in_bytes="900", memory__usage_in_bytes="800", memory__stat=stat)
    membership.write_text("3:cpu,cpuacct:/x\n2:memory:/host/path\n")
    assert list(found._of_groups(membership, root)) == [140]
    assert list(found._of_groups(tmp_path / "none", root)) == []


def test_the_limit_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    whole = found.free_memory()
    assert whole is not None
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1 << 20, 1 << 20))
    assert found.free_memory() == 0


KINDS: dict[str, dict[str, Any]] = {
    "txt2img": {},
    "batch": {"batch_size": 2},
    "hires": {"enable_hr": True, "hr_upscaler": "Latent", "hr_scale": 2.0},
    "img2img": {"mode": "img2img", "init_images": (Image.new("RGB", (64, 64), "red"),), "denoising_strength": 0.5},
    "network": {"prompt": "a cat <lora:lines:0.7>"},
    "edited": {"prompt": "[a:b:0.5] c AND d"},
    "unknown": {"sampler_name": "no such sampler"},
}


@pytest.fixture(scope="module")
def forgetful(tiny_data: Path) -> Iterator[AppServices]:
    """A server that keeps no results."""
    services = services_on(tiny_data, "--result-ttl", "0", checkpoint="base.safetensors")
    yield services
    services.close()


def test_mixed_jobs_leave_nothing_behind(forgetful: AppServices) -> None:
    """Tensors and pictures that are alive after a second round of every kind are those after the first."""
    draw = drawing_on(forgetful)

    def go_through() -> tuple[int, int]:
        for fields in KINDS.values():
            for _ in range(2):
                with suppress(LatentdError):
                    draw(steps=1, **fields)
        forgetful.engine.jobs()
        return alive(torch.Tensor), alive(Image.Image)

    go_through()
    assert go_through() == go_through()


def alive(kind: type[object]) -> int:
    gc.collect()
    return sum(issubclass(type(thing), kind) for thing in gc.get_objects())


SMALL: dict[str, Any] = {"prompt": "a red circle", "steps": 1, "width": 64, "height": 64}
GREY = encode_base64(Image.new("RGB", (64, 64), "grey"), format="png")
CALLS: dict[str, tuple[str, dict[str, Any], int]] = {
    "txt2img": ("txt2img", {**SMALL, "batch_size": 2}, 200),
    "img2img": ("img2img", {**SMALL, "init_images": [GREY]}, 200),
    "hires": ("txt2img", {**SMALL, "enable_hr": True, "hr_upscaler": "Latent", "denoising_strength": 0.5}, 200),
    "extras": ("extra-single-image", {"image": GREY, "upscaler_1": "Lanczos"}, 200),
    "several": ("extra-batch-images", {"imageList": [{"data": GREY, "name": "a"}] * 2, "upscaler_1": "Lanczos"}, 200),
    "unknown": ("txt2img", {**SMALL, "sampler_name": "no such sampler"}, 404),
    "failing": ("txt2img", {**SMALL, "prompt": "fails"}, 500),
}
#: How often each call is made in one round, and how many objects more than before may be noise.
TIMES, NOISE = 4, 3


class Failing:
    """A plugin that fails a job whose prompt asks for it."""

    @hookimpl
    def before_process(self, generation: Any) -> None:
        if generation.plan.request.prompt == "fails":
            raise KeyError("no such key")


@pytest.fixture
def forgetful_client(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A client of a server in this process that keeps no results and remembers four jobs."""
    monkeypatch.setattr("latentd.server.engine_setup.Engine", partial(Engine, max_ended=4))
    settings = parse_settings(["--data-dir", str(tiny_data), "--core-only", "--result-ttl", "0"], environment={})
    app = create_app(settings, extra_plugins=[("failing", Failing())])
    logging.disable()  # pytest keeps what is logged, tracebacks and their frames included
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client
    logging.disable(logging.NOTSET)


def test_after_twice_as_many_requests_as_many_objects_are_alive(forgetful_client: TestClient) -> None:
    """Counted by type: whatever is kept of each request, of one kind only even, shows."""

    def go_through(times: int) -> Counter[type]:
        for path, body, expected in CALLS.values():
            for _ in range(times):
                reply = forgetful_client.post(f"/sdapi/v1/{path}", json=body)
                assert reply.status_code == expected, reply.text
        gc.collect()
        return Counter(type(thing) for thing in gc.get_objects())

    go_through(2)  # caches fill, pools start their threads
    before = go_through(TIMES)
    grown = {kind: count for kind, count in (go_through(TIMES) - before).items() if count > NOISE}
    assert grown == {}


def test_encoded_text_is_kept_up_to_a_size(forgetful: AppServices, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = drawing_on(forgetful)
    with forgetful.models.lease(None, "Automatic") as model:
        draw(prompt="one", negative_prompt="", steps=1)
        kept = model.conditioning._cache
        size = sum(batch.nbytes for batch in kept.values()) // len(kept)
        monkeypatch.setattr("latentd.conditioning.encode.CACHE_BYTES", 3 * size)
        for number in range(5):
            draw(prompt=f"number {number}", negative_prompt="", steps=1)
            assert sum(batch.nbytes for batch in kept.values()) <= 3 * size
        monkeypatch.setattr("latentd.conditioning.encode.CACHE_BYTES", 1)
        draw(prompt="the last", negative_prompt="", steps=1)
        assert len(kept) == 1
