"""``latentd pull`` and ``rm`` against a hub on loopback, and nobody else."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.fake_hub import FakeHub

from latentd.cli import main, pull_download, pull_sources
from latentd.testing import tiny_models


def safetensors(*names: str) -> bytes:
    """A small file with tensors of these names."""
    header = {
        name: {"dtype": "F32", "shape": [64], "data_offsets": [256 * n, 256 * (n + 1)]} for n, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(range(256)) * len(names)


LORA = safetensors("lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight")
MODEL = safetensors("model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.decoder.x")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    found = FakeHub()
    found.files = {
        "me/lora": {"README.md": b"#", "style.safetensors": LORA},
        "me/many": {"a.safetensors": MODEL, "b.safetensors": LORA},
        "me/folder": {
            "model_index.json": b"{}",
            "unet/config.json": b"{}",
            "unet/diffusion_pytorch_model.safetensors": MODEL,
            "unet/diffusion_pytorch_model.fp16.safetensors": MODEL,
            "vae/diffusion_pytorch_model.fp16.safetensors": MODEL,
            "tokenizer/vocab.json": b"{}",
            "tokenizer/merges.txt": b"",
            "picture.png": b"",
        },
        "civitai": {"7": MODEL},
    }
    monkeypatch.setenv("HF_ENDPOINT", found.url)
    monkeypatch.setenv("CIVITAI_ENDPOINT", found.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("CIVITAI_API_TOKEN", "cv_secret")
    monkeypatch.setattr(pull_download, "FIRST_WAIT", 0.01)
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> Any:
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost"), address
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
    yield found
    found.close()


def pull(data: Path, *arguments: str) -> int:
    return main(["pull", *arguments, "--data-dir", str(data)])


def test_a_file_goes_to_the_folder_of_its_kind(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pull(tmp_path, "me/lora") == 0
    path = tmp_path / "models/Lora/style.safetensors"
    assert path.read_bytes() == LORA
    assert capsys.readouterr().out == f"{path}\n"
    assert pull(tmp_path, "me/many:a.safetensors") == 0
    assert (tmp_path / "models/Stable-diffusion/a.safetensors").read_bytes() == MODEL
    assert pull(tmp_path, "hf:me/many:b.safetensors", "--kind", "VAE") == 0
    assert (tmp_path / "models/VAE/b.safetensors").exists()
    assert list((tmp_path / "cache/pull").iterdir()) == []


def test_the_token_goes_to_the_hub_alone(hub: FakeHub, tmp_path: Path) -> None:
    assert pull(tmp_path, "me/lora") == 0
    sent = {path.partition("?")[0]: token for path, token, _ in hub.asked}
    assert sent["/me/lora/resolve/c0ffee/style.safetensors"] == "Bearer hf_secret"
    assert sent["/me/lora/style.safetensors"] is None


def test_what_is_ambiguous_or_missing_is_told(hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, words in (
        ("me/many", "me/many:a.safetensors, me/many:b.safetensors"),
        ("me/none", "has no me/none"),
        ("me/lora:none.safetensors", "style.safetensors"),
        ("nothing", "owner/repository"),
        ("civitai:x", "modelVersionId"),
        ("civitai:99", "404"),
        (f"{hub.store}/x/.hidden", "is no name for a file"),
        (f"{hub.store}/me/lora/none.pt", "404"),
    ):
        assert pull(tmp_path, name) == 1
        said = capsys.readouterr().err
        assert words in said, said
    assert pull(tmp_path) == 2
    assert "first" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_model_in_diffusers_layout_is_a_folder(hub: FakeHub, tmp_path: Path) -> None:
    assert pull(tmp_path, "me/folder") == 0
    folder = tmp_path / "models/Stable-diffusion/me--folder"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "model_index.json",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]


def test_civitai_by_its_version(hub: FakeHub, tmp_path: Path) -> None:
    file = {"name": "Nice.safetensors", "primary": True, "downloadUrl": f"{hub.url}/api/download/models/7"}
    file["hashes"] = {"SHA256": hashlib.sha256(MODEL).hexdigest().upper()}
    hub.versions["7"] = {"model": {"type": "Checkpoint"}, "files": [{"name": "notes.zip"}, file]}
    assert pull(tmp_path, "civitai:7") == 0
    path = tmp_path / "models/Stable-diffusion/Nice.safetensors"
    assert path.read_bytes() == MODEL
    path.unlink()
    assert pull(tmp_path, f"{hub.url}/models/3/nice?modelVersionId=7") == 0
    assert path.exists()
    assert {token for path, token, _ in hub.asked if path.startswith("/civitai")} == {None}
    hub.versions["7"]["files"][1]["name"] = "../../evil.safetensors"
    assert pull(tmp_path, "civitai:7") == 1
    assert not (tmp_path.parent / "evil.safetensors").exists()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([1], "the answer cannot be read, the document"),
        ({"files": [{"name": None}]}, "the answer cannot be read, files.0.name"),
        ({"files": "none"}, "the answer cannot be read, files"),
        ({"files": None, "model": None}, "has no file of weights"),
        ({"files": [{"name": "a.safetensors"}]}, "has no file of weights"),
        ({"files": [{"name": "a.safetensors", "downloadUrl": "file:///etc/passwd"}]}, "file:///etc/passwd"),
    ],
)
def test_an_odd_answer_of_civitai_is_told(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], document: Any, words: str
) -> None:
    hub.versions["7"] = document
    assert pull(tmp_path, "civitai:7") == 1
    assert words in capsys.readouterr().err


def test_a_download_goes_on_where_it_stopped(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within a command, and in the next one; from the beginning if the file is another one meanwhile."""
    hub.cut = [100, 100]
    hub.statuses = [503]
    assert pull(tmp_path, "me/lora") == 0
    ranges = [given for path, _, given in hub.asked if path == "/me/lora/style.safetensors"]
    assert ranges == [None, None, "bytes=100-", "bytes=200-"]
    monkeypatch.setattr(pull_download, "TRIES", 1)
    hub.cut = [100]
    assert pull(tmp_path, "me/many:a.safetensors") == 1
    assert "goes on from here" in capsys.readouterr().err
    hub.files["me/many"]["a.safetensors"] = MODEL[::-1]
    assert pull(tmp_path, "me/many:a.safetensors", "--kind", "Lora") == 0
    assert (tmp_path / "models/Lora/a.safetensors").read_bytes() == MODEL[::-1]


def test_what_is_not_what_it_should_be_is_removed(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.lies["style.safetensors"] = "0" * 64
    assert pull(tmp_path, "me/lora") == 1
    assert "SHA-256" in capsys.readouterr().err
    assert pull(tmp_path, f"{hub.store}/me/lora/style.safetensors", "--sha256", "1" * 64) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix in (".part", ".safetensors")]


def test_a_file_that_is_there_is_not_replaced_unasked(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "models/Lora/style.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(LORA)
    assert pull(tmp_path, "me/lora") == 0
    path.write_bytes(b"mine")
    assert pull(tmp_path, "me/lora") == 1
    assert ("--force" in capsys.readouterr().err, path.read_bytes()) == (True, b"mine")
    assert pull(tmp_path, "me/lora", "--force") == 0
    assert path.read_bytes() == LORA


def test_a_file_that_does_not_say_what_it_is(hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.files["me/lora"]["style.safetensors"] = safetensors("x")
    assert pull(tmp_path, "me/lora") == 1
    assert "--kind" in capsys.readouterr().err
    before = len(hub.asked)
    assert pull(tmp_path, "me/lora", "--kind", "ControlNet") == 0
    assert (tmp_path / "models/ControlNet/style.safetensors").exists()
    assert [path for path, _, _ in hub.asked[before:] if "resolve" in path] == [], (
        "what was fetched is not fetched again"
    )


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\x00", ".hidden", "a" * 201, " a"])
def test_names_that_are_paths(name: str) -> None:
    with pytest.raises(Exception, match="no name for a file"):
        pull_sources.safe_name(name)


# --- rm --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    folder = tmp_path / "models/Stable-diffusion"
    folder.mkdir(parents=True)
    for name in ("one", "two"):
        (folder / f"{name}.safetensors").write_bytes(MODEL)
        (folder / f"{name}.preview.png").write_bytes(b"")
    (folder / "one.yaml").write_text("")
    lora = tmp_path / "models/Lora"
    lora.mkdir()
    for name in ("one", "style"):
        (lora / f"{name}.safetensors").write_bytes(LORA)
    return tmp_path


def left(data: Path) -> list[str]:
    return sorted(str(path.relative_to(data / "models")) for path in (data / "models").rglob("*") if path.is_file())


def remove(data: Path, *arguments: str) -> int:
    return main(["rm", *arguments, "--data-dir", str(data), "--core-only", "--no-hashing"])


def test_a_model_is_removed_with_what_belongs_to_it(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert remove(filled, "one", "--yes") == 1
    assert "--kind" in capsys.readouterr().err
    before = left(filled)
    assert remove(filled, "style") == 1, "nobody answers"
    assert remove(filled, "styl", "--yes") == 1
    assert "style" in capsys.readouterr().err
    assert left(filled) == before
    assert remove(filled, "one", "--kind", "Stable-diffusion", "--yes") == 0
    assert remove(filled, "style", "--yes") == 0
    assert left(filled) == [
        "Lora/one.safetensors",
        "Stable-diffusion/two.preview.png",
        "Stable-diffusion/two.safetensors",
    ]


def test_a_link_is_removed_and_not_what_it_leads_to(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "far.safetensors"
    elsewhere.write_bytes(MODEL)
    (filled / "models/Stable-diffusion/far.safetensors").symlink_to(elsewhere)
    assert remove(filled, "far", "--yes") == 0
    assert elsewhere.exists()
    assert not (filled / "models/Stable-diffusion/far.safetensors").is_symlink()


# --- doctor ----------------------------------------------------------------------------------------------------------


def doctor(data: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, dict[str, Any]]]:
    status = main(["doctor", "--json", "--data-dir", str(data), "--core-only", "--no-hashing", *flags])
    return status, {finding["about"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_the_doctor_says_what_is_there_and_what_is_wrong(
    filled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentd.cli.doctor._requirements", list)  # those of this environment are its own matter
    status, found = doctor(filled, capsys, "--api-key", "s3cret")
    assert (status, found["checkpoints"]["said"], found["checkpoints"]["wrong"]) == (0, "2", False)
    assert found["torch"]["said"]
    assert str(filled / "models/Stable-diffusion") == found["models Stable-diffusion"]["said"]
    assert "s3cret" not in json.dumps(found)
    for path in (filled / "models/Stable-diffusion").iterdir():
        path.unlink()
    status, found = doctor(filled, capsys)
    assert (status, found["checkpoints"]["wrong"]) == (1, True)


def test_the_doctor_asks_pip_for_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    from latentd.cli import doctor as module

    class Done:
        stdout, stderr, returncode = "a 1.0 requires b, which is not installed.\n", "", 1

    monkeypatch.setattr(module.subprocess, "run", lambda *command, **named: Done())
    assert module._requirements() == [
        module.Finding(about="requirements", said="a 1.0 requires b, which is not installed.", wrong=True)
    ]


def test_the_tiny_models_of_the_suite_are_known_for_what_they_are(tmp_path: Path) -> None:
    from latentd.cli.pull_place import kind_of

    path = tmp_path / "tiny.safetensors"
    tiny_models.write(path, tiny_models.checkpoint("sd1", vae_widths=tiny_models.EIGHTH))
    assert kind_of(path) == "Stable-diffusion"
