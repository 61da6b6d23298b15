"""What a generation needs of memory, and what there is."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from tests.pipeline.conftest import Draw, drawing_on, services_on

from latentd.errors import LatentdError, TooLarge
from latentd.models import free_memory as found
from latentd.pipeline.memory import GIBIBYTE, unet_bytes
from latentd.server.services import AppServices

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
    monkeypatch.setattr("latentd.pipeline.memory.free_memory", lambda device=None: 30 << 20)
    with pytest.raises(TooLarge, match=needs):
        draw(**fields)
    assert len(draw(steps=1).images) == 1


def test_nobody_knows_how_much_there_is(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentd.pipeline.memory.free_memory", lambda device=None: None)
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
    "network": {"prompt": "a cat <lora:tinylora1:0.7>"},
    "edited": {"prompt": "[a:b:0.5] c AND d"},
    "unknown": {"sampler_name": "no such sampler"},
}


@pytest.fixture(scope="module")
def forgetful(data: Path) -> Iterator[AppServices]:
    """A server that keeps no results."""
    services = services_on(data, "--result-ttl", "0")
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
