from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from latentd.contributions import ModelFile
from latentd.errors import NotFound
from latentd.models.files.checkpoints import Checkpoints
from latentd.models.files.folders import find_models
from latentd.models.files.hashes import HashCache, legacy_hash
from latentd.models.files.vae_files import VaeFiles
from latentd.networks.files import NetworkLibrary


def file(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "Stable-diffusion"
    file(root / "model10.safetensors", b"ten")
    file(root / "model2.ckpt", b"two")
    file(root / "sub" / "other.v1.safetensors", b"other")
    file(root / "model2.yaml", b"model: {}")
    file(root / "notes.txt")
    file(root / "folder" / "model_index.json", b"{}")
    file(root / "folder" / "unet" / "diffusion_pytorch_model.safetensors", b"unet")
    return root


@pytest.fixture
def checkpoints(folder: Path, tmp_path: Path) -> Checkpoints:
    return Checkpoints([folder], HashCache(tmp_path / "cache"))


def test_rows_have_a1111s_fields(checkpoints: Checkpoints, folder: Path) -> None:
    digest = hashlib.sha256(b"two").hexdigest()
    assert checkpoints.rows()[0] == {
        "title": f"model2.ckpt [{digest[:10]}]",
        "model_name": "model2",
        "hash": digest[:10],
        "sha256": digest,
        "filename": str(folder / "model2.ckpt"),
        "config": str(folder / "model2.yaml"),
    }


def test_order_is_natural_and_names_are_relative(checkpoints: Checkpoints) -> None:
    names = [info.name for info in checkpoints]
    assert names == ["model2.ckpt", "model10.safetensors", "folder", "sub/other.v1.safetensors"]
    assert [info.model_name for info in checkpoints][-1] == "sub_other.v1"


@pytest.mark.parametrize(
    "form", ["{title}", "{name}", "{model_name}", "{stem}", "{hash}", "{sha256}", "{stem} [{hash}]"]
)
def test_exact_aliases(checkpoints: Checkpoints, form: str) -> None:
    wanted = list(checkpoints)[-1]
    fields = {k: getattr(wanted, k) for k in ("title", "name", "model_name", "stem", "hash", "sha256")}
    assert checkpoints.named(form.format(**fields)) is wanted


def test_fuzzy_look_up_takes_the_shortest_title_and_forgives_a_wrong_hash(checkpoints: Checkpoints) -> None:
    assert checkpoints.require("model").name == "model2.ckpt"
    assert checkpoints.require("other.v1.safetensors [0000000000]").name == "sub/other.v1.safetensors"
    with pytest.raises(NotFound, match=r"model 'modle2' not found") as caught:
        checkpoints.require("modle2")
    assert "model2" in str(caught.value.hint)


def test_an_unknown_configured_checkpoint_means_the_first(checkpoints: Checkpoints) -> None:
    assert checkpoints.default("gone.safetensors") is next(iter(checkpoints))


def test_no_checkpoint_at_all_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No checkpoints found") as caught:
        Checkpoints([tmp_path / "empty"], HashCache(tmp_path)).default(None)
    assert "pip install ./plugins/tinymodel" in str(caught.value.hint)


def test_plugins_files_come_last_and_give_way_to_the_users(folder: Path, tmp_path: Path) -> None:
    pack = file(tmp_path / "pack" / "p.safetensors")
    contributed = [
        ModelFile(path=pack, name="model10.safetensors"),
        ModelFile(path=pack, name="extra.safetensors"),
        ModelFile(path=pack, name="tiny.safetensors", default=True),
    ]
    found = Checkpoints([folder], HashCache(tmp_path / "cache"), contributed=contributed)
    assert [info.name for info in found][-2:] == ["tiny.safetensors", "extra.safetensors"]
    assert found.require("model10.safetensors").filename == str(folder / "model10.safetensors")


def test_the_explicit_checkpoint_comes_first(folder: Path, tmp_path: Path) -> None:
    explicit = file(tmp_path / "elsewhere" / "mine.ckpt")
    found = Checkpoints([folder], HashCache(tmp_path / "cache"), explicit=explicit)
    assert found.default(None).name == "mine.ckpt"


def test_refresh_sees_new_gone_and_changed_files(checkpoints: Checkpoints, folder: Path) -> None:
    kept = checkpoints.require("model2.ckpt")
    (folder / "model10.safetensors").unlink()
    file(folder / "new.safetensors")
    file(folder / "model2.ckpt", b"changed")
    checkpoints.refresh()
    assert checkpoints.named("model10.safetensors") is None
    assert checkpoints.named("new") is not None
    assert checkpoints.require("model2.ckpt") is kept
    assert kept.sha256 == hashlib.sha256(b"changed").hexdigest()


def test_a_link_in_a_circle_does_not_hang(folder: Path, tmp_path: Path) -> None:
    (folder / "sub" / "loop").symlink_to(folder, target_is_directory=True)
    assert len(Checkpoints([folder], HashCache(tmp_path / "cache"))) == 4


def test_without_hashing_titles_carry_none(folder: Path, tmp_path: Path) -> None:
    found = Checkpoints([folder], HashCache(tmp_path / "cache", enabled=False))
    assert found.rows()[0]["title"] == "model2.ckpt"
    assert found.rows()[0]["sha256"] is None


def test_hashes_are_kept_on_disk_until_the_file_changes(tmp_path: Path) -> None:
    path = file(tmp_path / "m", b"one")
    digest = HashCache(tmp_path / "cache").sha256(path)
    assert HashCache(tmp_path / "cache").known(path) == digest
    path.write_bytes(b"three")
    assert HashCache(tmp_path / "cache").known(path) is None
    (tmp_path / "cache" / "hashes.json").write_text("{broken")
    assert HashCache(tmp_path / "cache").sha256(path) == hashlib.sha256(b"three").hexdigest()


def test_legacy_hash_reads_64_kib_at_one_mib(tmp_path: Path) -> None:
    data = bytes(0x100000) + b"a" * 0x10000 + b"tail"
    assert legacy_hash(file(tmp_path / "m", data)) == hashlib.sha256(b"a" * 0x10000).hexdigest()[:8]
    assert legacy_hash(tmp_path / "none") == "NOFILE"


def test_vae_choice(checkpoints: Checkpoints, folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "VAE"
    for name in ("model2-fix.safetensors", "plain.pt"):
        file(root / name)
    vaes = VaeFiles([root], HashCache(tmp_path / "cache"), beside=[folder])
    two, ten = checkpoints.require("model2.ckpt"), checkpoints.require("model10.safetensors")

    def chosen(*args: object, **kwargs: object) -> str | None:
        found = vaes.resolve(*args, **kwargs)  # type: ignore[arg-type]
        return found.name if found else None

    assert [row["model_name"] for row in vaes.rows()] == ["model2-fix.safetensors", "plain.pt"]
    assert chosen(two, "Automatic") == "model2-fix.safetensors"
    assert chosen(ten, "Automatic") is None
    assert chosen(two, "None") is None
    assert chosen(two, "plain.pt") == "plain.pt"
    assert chosen(two, "plain.pt", overrides=False) == "model2-fix.safetensors"
    assert chosen(ten, "plain.pt", overrides=False) == "plain.pt"
    file(folder / "model2.json", b'{"vae": "plain.pt"}')
    assert chosen(two) == "plain.pt"
    with pytest.raises(NotFound, match=r"VAE 'none\.pt' not found"):
        vaes.resolve(two, "none.pt")
    explicit = VaeFiles([root], HashCache(tmp_path / "cache"), explicit=tmp_path / "e.pt")
    assert explicit.resolve(two, "None") is not None


def test_a_vae_beside_a_checkpoint_is_listed_as_one(folder: Path, tmp_path: Path) -> None:
    file(folder / "model2.vae.safetensors")
    hashes = HashCache(tmp_path / "cache")
    found = Checkpoints([folder], hashes)
    assert found.named("model2.vae.safetensors") is None
    chosen = VaeFiles([], hashes, beside=[folder]).resolve(found.require("model2.ckpt"))
    assert chosen is not None
    assert chosen.name == "model2.vae.safetensors"


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from latentd.models import architecture, cache, devices, manager; "
        "from latentd.models.files import checkpoints, folders, hashes, vae_files; "
        "devices.memory_report(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


@pytest.mark.parametrize(("hidden", "names"), [(True, [".kept/b.safetensors", "a.safetensors"]),
                                               (False, ["a.safetensors"])])  # fmt: skip
def test_folders_whose_name_begins_with_a_dot_are_searched_if_asked(
    tmp_path: Path, hidden: bool, names: list[str]
) -> None:
    for name in ("a.safetensors", ".kept/b.safetensors", "._a.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert sorted(found.name for found in find_models(tmp_path, (".safetensors",), hidden=hidden)) == names
    listed = Checkpoints([tmp_path], HashCache(tmp_path / "cache"), hidden=lambda: hidden)
    assert sorted(info.name for info in listed) == names
    networks = NetworkLibrary([tmp_path], hidden=lambda: hidden)
    assert [net.name for net in networks.list()] == sorted(Path(name).stem for name in names)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe{",
        b"[" * 100_000,
        b'{"/x": {"stamp": ' + b"[" * 100_000 + b"]" * 100_000 + b', "sha256": "a"}}',
        b'{"/x": {"stamp": "1", "sha256": 5}, "/y": [1]}',
        b'{"/x": {"stamp": [1, ' + b"9" * 5000 + b'], "sha256": "a"}}',
    ],
)
def test_a_broken_file_of_hashes_costs_only_the_hashes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "hashes.json").write_bytes(content)
    model = tmp_path / "m.safetensors"
    model.write_bytes(b"weights")
    digest = HashCache(tmp_path).sha256(model)
    assert HashCache(tmp_path).known(model) == digest


@pytest.mark.parametrize(
    "content",
    [
        b"{not json",
        '{"Stra\xdfe": {"stamp": [1, 2], "sha256": "a"}}'.encode("latin-1"),
        '{"a": {}}'.encode("utf-16"),
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": {"stamp": [' + b"9" * 5000 + b', 1], "sha256": "a"}}',
    ],
    ids=["no json", "latin-1", "utf-16", "nested", "digits"],
)
def test_broken_hashes_are_kept_aside_and_made_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "hashes.json").write_bytes(content)
    (tmp_path / "m.ckpt").write_bytes(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    assert HashCache(tmp_path).sha256(tmp_path / "m.ckpt") == digest
    assert (tmp_path / "hashes.json.broken").read_bytes() == content
    assert HashCache(tmp_path).known(tmp_path / "m.ckpt") == digest
