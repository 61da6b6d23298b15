"""Preprocessors with weights: the real networks on files of true layout, over the API and as units; never a hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import annotator_files as files
import numpy as np
import pytest
import torch
from control_requests import pixels, png
from PIL import Image

pytest.importorskip("controlnet_aux")

#: Module → the weight files it needs.
MODULES = {
    "hed": ["ControlNetHED.pth"],
    "hed_safe": ["ControlNetHED.pth"],
    "scribble_hed": ["ControlNetHED.pth"],
    "pidinet": ["table5_pidinet.pth"],
    "pidinet_safe": ["table5_pidinet.pth"],
    "pidinet_sketch": ["table5_pidinet.pth"],
    "scribble_pidinet": ["table5_pidinet.pth"],
    "lineart_realistic": ["sk_model.pth"],
    "lineart_coarse": ["sk_model2.pth"],
    "lineart_anime": ["netG.pth"],
    "mlsd": ["mlsd_large_512_fp32.pth"],
    "normal_bae": ["scannet.pt"],
    "depth_midas": ["dpt_hybrid-midas-501f0c75.pt"],
    "normal_midas": ["dpt_hybrid-midas-501f0c75.pt"],
    "depth_leres": ["res101.pth"],
    "softedge_teed": ["7_model.pth"],
    "softedge_anyline": ["MTEED.pth"],
    "inpaint_only+lama": ["ControlNetLama.pth"],
}
#: Modules whose files another one has shown to matter.
SHARING = {"hed_safe", "scribble_hed", "pidinet_safe", "pidinet_sketch", "scribble_pidinet", "normal_midas"}
SLOW = {
    "depth_zoe": ["ZoeD_M12_N.pt"],
}
Detect = Callable[..., Any]


@pytest.fixture(scope="module")
def photo() -> str:
    """A smooth picture with a bright square and some noise, 64 pixels, base64."""
    y, x = np.mgrid[:64, :64]
    values = np.stack([x * 3, y * 3, 255 - x - y], axis=2) + np.random.RandomState(0).randint(0, 40, (64, 64, 1))
    values[20:40, 12:50] = (250, 240, 30)
    return png(Image.fromarray(values.clip(0, 255).astype(np.uint8)))


@pytest.fixture(scope="module")
def detect(server: Any, photo: str, half_mask: str) -> Detect:
    """``detect(module, **fields)``: the reply of a detection on the photograph."""

    def run(module: str, **fields: Any) -> Any:
        body = {"controlnet_module": module, "controlnet_input_images": [photo], "controlnet_processor_res": 64}
        masks = {"controlnet_masks": [half_mask]} if "inpaint" in module else {}
        return server.post("/controlnet/detect", json={**body, **masks, **fields})

    return run


def map_of(reply: Any) -> np.ndarray:
    assert reply.status_code == 200, reply.text
    (text,) = reply.json()["images"]
    return pixels(text)


def works(module: str, names: list[str], folder: Path, detect: Detect, generate: Any, photo: str, mask: str) -> None:
    for name in names:
        files.write(folder, name)
    first = map_of(detect(module))
    assert first.shape == (64, 64, 3)
    unit = {"model": "net", "module": module, "image": photo, "processor_res": 64}
    if "inpaint" in module:
        unit["mask"] = mask
    body = generate(unit, steps=1)
    assert np.array_equal(pixels(body["images"][1]), first), "as a unit, and again: the same map"
    if module in SHARING:
        return
    for name in names:
        files.write(folder, name, seed=1)
    assert not np.array_equal(map_of(detect(module)), first), "other weights, another map"


@pytest.mark.parametrize("module", MODULES)
def test_real_networks(module: str, folder: Path, detect: Detect, generate: Any, photo: str, half_mask: str) -> None:
    works(module, MODULES[module], folder, detect, generate, photo, half_mask)


@pytest.mark.slow
@pytest.mark.parametrize("module", SLOW)
def test_large_networks(module: str, folder: Path, detect: Detect, generate: Any, photo: str, half_mask: str) -> None:
    works(module, SLOW[module], folder, detect, generate, photo, half_mask)


def test_without_its_file_a_module_names_file_and_folder(
    server: Any, detect: Detect, folder: Path, tmp_path: Path
) -> None:
    server.post("/sdapi/v1/options", json={"control_net_modules_path": str(tmp_path)})
    try:
        for module, names in {**MODULES, **SLOW, "openpose_full": ["body_pose_model.pth"]}.items():
            reply = detect(module)
            assert reply.status_code == 422, reply.text
            assert f"lacks its weights {names[0]}" in reply.json()["detail"]
            assert reply.json()["hint"] == f"put {names[0]} into models/ControlNet/annotator of the data folder"
    finally:
        server.post("/sdapi/v1/options", json={"control_net_modules_path": str(folder)})


def test_hostile_and_foreign_files_are_refused(detect: Detect, folder: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return (tmp_path / "touched").touch, ()

    for name in ("ControlNetHED.pth", "body_pose_model.pth"):
        module = "hed" if "HED" in name else "openpose"
        torch.save({"norm": Hostile()}, folder / name)
        reply = detect(module)
        assert reply.status_code == 422, reply.text
        assert f"{name} cannot be read as a weight file" in reply.json()["detail"]
        assert not (tmp_path / "touched").exists()
        torch.save({"norm": torch.zeros(1)}, folder / name)
        reply = detect(module)
        assert reply.status_code == 422, reply.text
        assert name in reply.json()["detail"]
        (folder / name).unlink()


def test_safetensors_and_unwrapped_weights_are_read_too(detect: Detect, folder: Path) -> None:
    from control_files import write

    path = files.write(folder, "table5_pidinet.pth")
    first = map_of(detect("pidinet"))
    path.unlink()
    make, _ = files.FILES[path.name]
    write(path.with_suffix(".safetensors"), files.weights(make))
    assert np.array_equal(map_of(detect("pidinet")), first)
    path.with_suffix(".safetensors").unlink()


@pytest.mark.parametrize(("resolution", "shape"), [(64, (64, 128)), (100, (100, 200)), (-1, (512, 1024))])
def test_maps_have_the_resolution_asked_for(
    detect: Detect, folder: Path, resolution: int, shape: tuple[int, int]
) -> None:
    files.write(folder, "7_model.pth")
    wide = png(Image.effect_noise((96, 48), 60).convert("RGB"))
    found = map_of(detect("softedge_teed", controlnet_input_images=[wide], controlnet_processor_res=resolution))
    assert found.shape[:2] == shape


def test_networks_are_kept_by_the_option_and_go(server: Any, detect: Detect, folder: Path) -> None:
    import gc
    import weakref

    cache = server.app.state.services.models.cache
    cache.drop("annotator")
    for name in ("ControlNetHED.pth", "table5_pidinet.pth", "sk_model.pth", "7_model.pth"):
        files.write(folder, name)
    for module in ("hed", "pidinet", "lineart", "softedge_teed"):
        detect(module)
    held = [weakref.ref(found) for found in cache.loaded("annotator")]
    assert len(held) == server.get("/sdapi/v1/options").json()["control_net_model_cache_size"] == 2
    server.post("/sdapi/v1/options", json={"control_net_model_cache_size": 1})
    detect("softedge_teed")
    assert len(cache.loaded("annotator")) == 1
    server.post("/sdapi/v1/options", json={"control_net_model_cache_size": 2})
    bytes_of_models = cache.nbytes
    cache.drop("annotator")
    gc.collect()
    assert cache.nbytes < bytes_of_models, "they count as what is loaded"
    assert not [ref for ref in held if ref() is not None]


def test_poses_come_as_drawings_and_as_joints(
    server: Any, detect: Detect, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(folder, "body_pose_model.pth", scale=0.3)
    reply = detect("openpose")
    assert not map_of(reply).any(), "nobody is in the photograph"
    assert reply.json()["poses"] == [{"people": [], "animals": [], "canvas_height": 64, "canvas_width": 64}]
    (found,) = server.app.state.services.models.cache.loaded("annotator")[-1:]
    strip = torch.load(folder / "body_pose_model.pth")["conv1_1.weight"]
    assert torch.equal(found.body_estimation.model.model0.conv1_1.weight, strip)

    from controlnet_aux.open_pose.body import Body, BodyResult, Keypoint

    joints = [Keypoint(x=8.0 + 3 * i, y=30.0 + 2 * i, id=i) for i in range(17)] + [None]
    monkeypatch.setattr(Body, "format_body_result", staticmethod(lambda *found: [BodyResult(joints, 1.0, 17)]))
    reply = detect("openpose")
    from controlnet_aux.open_pose.util import draw_bodypose

    shares = [joint and Keypoint(joint.x / 64, joint.y / 64) for joint in joints]
    drawn = draw_bodypose(np.zeros((64, 64, 3), np.uint8), shares)
    assert np.array_equal(map_of(reply), drawn), "drawn as the package draws"
    (person,) = reply.json()["poses"][0]["people"]
    assert person["pose_keypoints_2d"][:6] == [8 / 64, 30 / 64, 1.0, 11 / 64, 32 / 64, 1.0]
    assert person["pose_keypoints_2d"][-3:] == [0.0, 0.0, 0.0]
    assert person["face_keypoints_2d"] is None
    drawn = server.post("/controlnet/render_openpose_json", json=reply.json()["poses"])
    assert pixels(drawn.json()["images"][0]).any()


@pytest.mark.slow
def test_hands_and_faces(detect: Detect, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from controlnet_aux.open_pose.body import Body, BodyResult, Keypoint

    for name in ("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth"):
        files.write(folder, name)
    joints = [Keypoint(x=10.0 + 2.5 * i, y=12.0 + 2.5 * i, id=i) for i in range(18)]
    monkeypatch.setattr(Body, "format_body_result", staticmethod(lambda *found: [BodyResult(joints, 1.0, 18)]))
    maps = {module: map_of(detect(module)) for module in ("openpose", "openpose_face", "openpose_full")}
    assert maps["openpose"].any()
    reply = detect("openpose_faceonly")
    (person,) = reply.json()["poses"][0]["people"]
    assert len(person["face_keypoints_2d"]) % 3 == 0
    assert not np.array_equal(map_of(reply), maps["openpose"])
    assert not np.array_equal(maps["openpose_face"], maps["openpose"])


def test_what_the_package_fails_on_is_a_422(capsys: pytest.CaptureFixture[str]) -> None:
    from latentd_controlnet.preprocessors.networks import quiet

    from latentd.api import InvalidRequest, NotConfigured

    def fail() -> None:
        print("Loading...")  # noqa: T201 - as the package does
        raise UnboundLocalError("too small")

    with pytest.raises(InvalidRequest, match="Preprocessor hed failed on this picture: too small"), quiet("hed"):
        fail()
    with pytest.raises(NotConfigured, match="no file"), quiet("hed"):
        raise NotConfigured("no file")
    assert capsys.readouterr().out == ""


def test_segments_lie_small_on_large(
    server: Any, detect: Detect, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import controlnet_aux.segment_anything as package

    def found(self: Any, image: np.ndarray) -> list[dict[str, Any]]:
        """What random weights never find: a small part on a large one."""
        small, large = np.zeros((2, 64, 64), bool)
        small[10:20, 10:20], large[:40, :40] = True, True
        return [{"segmentation": part, "area": int(part.sum())} for part in (small, large)]

    monkeypatch.setattr(package.SamAutomaticMaskGenerator, "generate", found)
    path = files.write(folder, "mobile_sam.pt")
    drawn = map_of(detect("mobile_sam"))
    assert len({tuple(drawn[y, x]) for y, x in ((15, 15), (30, 30), (60, 60))}) == 3
    assert np.array_equal(map_of(detect("mobile_sam")), drawn)
    generator = server.app.state.services.models.cache.loaded("annotator")[-1]
    key = "image_encoder.patch_embed.seq.0.c.weight"
    assert torch.equal(generator.predictor.model.state_dict()[key], torch.load(path)[key])


@pytest.mark.slow
def test_depth_merged_from_several_resolutions(detect: Detect, folder: Path) -> None:
    for name in ("res101.pth", "latest_net_G.pth"):
        files.write(folder, name)
    merged, plain = (map_of(detect(name, controlnet_processor_res=192)) for name in ("depth_leres++", "depth_leres"))
    assert merged.shape == (192, 192, 3)
    assert not np.array_equal(merged, plain)
    small = detect("depth_leres++")
    assert small.status_code == 422, "the package has no resolutions between those of a small picture"
    assert "failed on this picture" in small.json()["detail"]
