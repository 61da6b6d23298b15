from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from latentd.errors import NotFound
from latentd.models.cache import ModelCache
from latentd.models.devices import DevicePolicy, choose_policy, memory_report
from latentd.models.files import state_dict
from latentd.models.files.checkpoints import Checkpoints
from latentd.models.files.hashes import HashCache
from latentd.models.files.vae_files import VaeFiles
from latentd.models.manager import CHECKPOINT, DEFAULTS, ModelManager
from latentd.testing import tiny_models


class Thing:
    """Something a weak reference can point to."""


@pytest.fixture
def manager(checkpoint_folder: Path, tmp_path: Path) -> ModelManager:
    tiny_models.write(tmp_path / "VAE" / "other.safetensors", tiny_models.vae(seed=9))
    hashes = HashCache(tmp_path / "cache")
    vaes = VaeFiles([tmp_path / "VAE"], hashes)
    return ModelManager(Checkpoints([checkpoint_folder], hashes), vaes, policy=DevicePolicy)


def test_selection_is_exact_and_survives_refresh(manager: ModelManager) -> None:
    assert manager.select("sd1").name == "sd1.safetensors"
    manager.refresh()
    assert manager.current.name == "sd1.safetensors"
    with pytest.raises(NotFound):
        manager.select("sd")


def test_a_lease_gives_the_same_model_until_another_is_wanted(manager: ModelManager) -> None:
    manager.select("sd1")
    with manager.lease() as first, manager.lease("sd1") as second:
        assert first is second
        alive = weakref.ref(first)
    del first, second
    with manager.lease() as again:
        assert again is alive()
    del again
    with manager.lease("inpainting") as other:
        gc.collect()
        assert alive() is None
        assert manager.cache.nbytes == other.nbytes()


def test_the_vae_of_a_lease_is_its_own(manager: ModelManager) -> None:
    with manager.lease("sd1") as model:
        own = model.vae
        with manager.lease("sd1", "other.safetensors") as same:
            assert same is model
            assert model.vae is not own
            assert model.vae_info is not None
            assert (model.vae_info.name, len(str(model.vae_info.hash))) == ("other.safetensors", 10)
        assert model.vae is own
        assert model.vae_info is None


def test_unload_frees_and_the_selection_comes_back(manager: ModelManager) -> None:
    manager.select("sd1")
    with manager.lease() as model:
        alive = weakref.ref(model)
    del model
    manager.unload()
    gc.collect()
    assert alive() is None
    assert manager.cache.nbytes == 0
    manager.reload()
    assert [m.info.name for m in manager.cache.loaded("checkpoint")] == ["sd1.safetensors"]


def test_a_failed_load_leaves_nothing_behind(manager: ModelManager, checkpoint_folder: Path) -> None:
    with pytest.raises(NotFound), manager.lease("sd1", "missing.pt"):
        pass
    assert manager.cache.nbytes == 0


def test_loading_hashes_what_the_scan_left_out(manager: ModelManager) -> None:
    info = manager.checkpoints.require("sd1")
    info.set_sha256(None)
    with manager.lease("sd1") as model:
        assert model.info.title.endswith(f"[{model.info.hash}]")
        assert manager.named(str(info.hash)) is info


def make(log: list[str], name: str) -> Callable[[], Thing]:
    def load() -> Thing:
        log.append(name)
        return Thing()

    return load


def test_budget_drops_the_least_recently_used_but_nothing_on_lease() -> None:
    log: list[str] = []
    cache = ModelCache(budget=20)
    with cache.lease(("k", "a"), make(log, "a"), 10):
        cache.get(("k", "b"), make(log, "b"), 10)
        cache.get(("k", "c"), make(log, "c"), 10)
        assert cache.nbytes == 20
        cache.get(("k", "a"), make(log, "a"), 10)
        cache.get(("k", "b"), make(log, "b"), 10)
    assert log == ["a", "b", "c", "b"]


def test_a_limit_makes_room_before_loading() -> None:
    events: list[tuple[str, str]] = []
    cache = ModelCache(limits={"k": 1}, observer=lambda name, event: events.append((name, event)))
    for name in ("x/a.bin", "x/b.bin"):
        cache.get(("k", name), Thing)
    assert events == [("k a.bin", "loaded"), ("k a.bin", "unloaded"), ("k b.bin", "loaded")]


def test_two_threads_load_once() -> None:
    log: list[str] = []
    cache = ModelCache()
    threads = [threading.Thread(target=cache.get, args=(("k", "a"), make(log, "a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log == ["a"]


def test_cpu_policy_is_float32() -> None:
    policy = choose_policy(use_cpu=["all"])
    assert (policy.device, policy.dtype, policy.vae_dtype) == ("cpu", "float32", "float32")


def test_memory_report_has_both_parts() -> None:
    report = memory_report()
    assert set(report) == {"ram", "cuda"}
    assert report["ram"]["used"] > 0


# --- what is kept where ----------------------------------------------------------------------------------------------


class Movable:
    """A loaded checkpoint as far as the manager moves it: there is no second device here to move a real one to."""

    def __init__(self, policy: DevicePolicy) -> None:
        self.policy = policy
        self.place: object = "device"
        self.parked = False
        self.vae = self.own_vae = self.vae_info = None

    def nbytes(self) -> int:
        return 1

    def to(self, device: object) -> None:
        self.place = "device" if device is None else device


@pytest.mark.parametrize(("keep", "device", "expected"), [(True, "cuda:0", "cpu"), (False, "cuda:0", "device"),
                                                          (True, "cpu", "device")])  # fmt: skip
def test_checkpoints_not_at_work_wait_in_main_memory(
    checkpoint_folder: Path, tmp_path: Path, keep: bool, device: str, expected: str
) -> None:
    hashes = HashCache(tmp_path)
    manager = ModelManager(
        Checkpoints([checkpoint_folder], hashes),
        VaeFiles([], hashes),
        cache=ModelCache(limits={CHECKPOINT: 2}),
        policy=lambda: DevicePolicy(device=device),
        loaders=[lambda info, policy: Movable(policy)],
        options={**DEFAULTS, "sd_checkpoints_keep_in_cpu": keep},
    )
    with manager.lease("sd1") as first, manager.lease("sd2") as second:
        assert (first.place, second.place) == ("device", "device")  # type: ignore[attr-defined]
    with manager.lease("sd2"):
        assert first.place == expected  # type: ignore[attr-defined]
    with manager.lease("sd1") as again:
        assert again is first
        assert again.place == "device"  # type: ignore[attr-defined]


def changed(manager: ModelManager, **options: object) -> ModelManager:
    manager._options = {**DEFAULTS, **options}
    return manager


def test_contents_of_files_are_kept_as_many_as_asked_for(manager: ModelManager) -> None:
    changed(manager, sd_checkpoint_cache=1, sd_vae_checkpoint_cache=2)
    with manager.lease("sd1", "other.safetensors") as model:
        weight = model.unet.conv_in.weight.clone()
    files = manager.cache.loaded("checkpoint file")
    assert [contents.name for contents in files] == ["sd1.safetensors"]
    assert [contents.name for contents in manager.cache.loaded("vae file")] == ["other.safetensors"]
    manager.cache.drop(CHECKPOINT)
    files[0]._tensors["model.diffusion_model.input_blocks.0.0.weight"] += 1
    with manager.lease("sd1") as model:
        assert torch.allclose(model.unet.conv_in.weight, weight + 1, atol=1e-2)  # from memory, not from the file
    with manager.lease("sd2"):
        assert [contents.name for contents in manager.cache.loaded("checkpoint file")] == ["sd2.safetensors"]
    manager.keep_files(CHECKPOINT, 0)
    assert manager.cache.loaded("checkpoint file") == []


def test_no_contents_are_kept_by_default(manager: ModelManager) -> None:
    with manager.lease("sd1", "other.safetensors"):
        assert manager.cache.loaded("checkpoint file") == manager.cache.loaded("vae file") == []


def test_files_are_read_whole_where_mapping_is_off(
    manager: ModelManager, checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    opened = state_dict.open_regular

    def noted(path: Path) -> Any:
        read.append(path.name)
        return opened(path)

    monkeypatch.setattr(state_dict, "open_regular", noted)
    with manager.lease("sd1") as model:
        mapped = model.unet.conv_in.weight.clone()
    assert "sd1.safetensors" not in read
    manager.cache.clear()
    changed(manager, disable_mmap_load_safetensors=True)
    with manager.lease("sd1") as model:
        assert torch.equal(model.unet.conv_in.weight, mapped)
    assert "sd1.safetensors" in read
