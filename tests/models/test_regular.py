"""Files that users plant: only files are opened, whatever bears a weight's name."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from latentd.conditioning.embeddings import EmbeddingStore
from latentd.errors import ModelLoadError
from latentd.images.annotations import Label, LegendStyle, annotate_grid
from latentd.json_file import read_object
from latentd.models.files.checkpoints import Checkpoints
from latentd.models.files.folders import find_models
from latentd.models.files.hashes import HashCache, legacy_hash
from latentd.models.files.safetensors_header import read_header, safetensors_metadata
from latentd.models.files.state_dict import open_state_dict
from latentd.models.files.unpickle import load_pickle
from latentd.models.loading.diffusers_folder import weights_in
from latentd.models.loading.model_yaml import read_model_yaml
from latentd.networks.adapter_config import config_beside
from latentd.networks.files import NetworkLibrary, network_digest
from latentd.prompts.styles_file import load_styles, read_styles
from latentd.regular import NotRegular, check_regular, is_regular, open_regular, read_regular

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes and sockets among its files")
CORE = Path(__file__).parents[2] / "core" / "latentd"
PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture(autouse=True)
def _no_test_blocks() -> Iterator[None]:
    """An open that waits for a pipe's writer ends the test instead of the run."""

    def stop(*_: object) -> None:
        raise AssertionError("blocked on a pipe")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def plant(path: Path, kind: str) -> Path:
    """Something at ``path`` that is no file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = Path.cwd()
            os.chdir(path.parent)  # the names of sockets are short
            try:
                server.bind(path.name)
            finally:
                os.chdir(here)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        path.symlink_to("/dev/zero")
    return path


KINDS = ("pipe", "socket", "folder", "loop", "device")

READERS: dict[str, Callable[[Path], object]] = {
    "x.safetensors": open_state_dict,
    "x.sft/unmapped.safetensors": lambda path: open_state_dict(path, mapped=False),
    "header.safetensors": read_header,
    "x.pt": load_pickle,
    "x.ckpt": open_state_dict,
    "x.yaml": read_model_yaml,
    "unet/diffusion_pytorch_model.safetensors": lambda path: weights_in(path.parent),
    "model.onnx": check_regular,
    "digest.pt": network_digest,
    "styles.csv": read_styles,
    "read.txt": lambda path: read_regular(path, 100),
    "font.ttf": lambda path: annotate_grid(_picture(), (8, 8), [[Label("a")]], [], style=_font(path)),
}


def _picture() -> Image.Image:
    return Image.new("RGB", (8, 8))


def _font(path: Path) -> LegendStyle:
    return LegendStyle(font=str(path))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_what_is_no_file_and_says_its_name(tmp_path: Path, name: str, kind: str) -> None:
    path = plant(tmp_path / name, kind)
    if name == "styles.csv" and kind == "loop":
        assert load_styles([path], lambda path: []) == {}
        return
    if name == "model.onnx" and kind == "folder":
        return  # whole folders are checked, too
    with pytest.raises((ModelLoadError, OSError, ValueError), match=re.escape(path.name) + "|unet holds no weights"):
        READERS[name](path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_be_missing_reads_as_missing(tmp_path: Path, kind: str) -> None:
    name = plant(tmp_path / "adapter_config.json", kind)
    assert config_beside(name.with_name("adapter_model.safetensors")) == {}
    assert safetensors_metadata(plant(tmp_path / "m.safetensors", kind)) == {}
    assert legacy_hash(tmp_path / "m.safetensors") == "NOFILE"
    assert read_object(plant(tmp_path / "config.json", kind)) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_scans_leave_out_what_is_no_file(tmp_path: Path, kind: str) -> None:
    for ending in ("safetensors", "pt", "ckpt", "png", "bin", "webp"):
        plant(tmp_path / f"planted.{ending}", kind)
    (tmp_path / "real.pt").write_bytes(b"x")
    assert [found.name for found in find_models(tmp_path, (".pt", ".safetensors"))] == ["real.pt"]
    assert not list(Checkpoints([tmp_path], HashCache(tmp_path)))
    assert [net.name for net in NetworkLibrary([tmp_path]).list()] == ["real"]
    assert EmbeddingStore([tmp_path]).all() == {}


def test_an_explicit_checkpoint_that_is_a_pipe_is_left_out(tmp_path: Path) -> None:
    pipe = plant(tmp_path / "x.safetensors", "pipe")
    assert not list(Checkpoints([], HashCache(tmp_path), explicit=pipe))


def test_files_and_links_to_them_are_opened(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    assert is_regular(tmp_path / "link")
    assert read_regular(tmp_path / "link", 3) == b"abc"
    with pytest.raises(ValueError, match="larger than 2"):
        read_regular(tmp_path / "a", 2)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "missing")
    check_regular(tmp_path)
    plant(tmp_path / "below" / "pipe", "pipe")
    with pytest.raises(ModelLoadError, match="pipe is no regular file"):
        check_regular(tmp_path)


def test_a_pipe_is_refused_though_someone_writes_into_it(tmp_path: Path) -> None:
    pipe = plant(tmp_path / "x", "pipe")
    both = os.open(pipe, os.O_RDWR)
    with pytest.raises(NotRegular):
        open_regular(pipe)
    os.close(both)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become somebody else")
def test_unreadable_files_are_listed_or_left_out_and_never_in_the_way(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("unreadable")
    for above in (folder, *(path for path in folder.parents if "pytest-of-" in str(path))):
        above.chmod(0o755)
    for ending in ("safetensors", "pt", "ckpt"):
        (folder / f"secret.{ending}").write_bytes(b"x" * 64)
        (folder / f"secret.{ending}").chmod(0)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            open_regular(folder / "secret.pt")
        assert len(list(Checkpoints([folder], HashCache(folder)))) == 2
        assert [net.name for net in NetworkLibrary([folder]).list()] == ["secret"]
        assert EmbeddingStore([folder]).all() == {}
        with pytest.raises(ModelLoadError, match=r"secret\.pt"):
            load_pickle(folder / "secret.pt")
        with pytest.raises(ModelLoadError, match=r"secret\.safetensors"):
            open_state_dict(folder / "secret.safetensors")
    finally:
        os.seteuid(0)


#: Opens of what no user plants: what the operator names by a flag, packages carry, the kernel tells, was just made.
_OWN = {
    "regular.py", "atomic.py", "cli/main.py", "cli/new_key.py", "cli/new_plugin.py", "cli/generate.py",
    "server/keys.py", "cli/pull_download.py", "cli/pull_place.py", "prompts/tokenizer.py", "images/codecs.py",
    "models/free_memory.py", "models/cores.py", "models/control_groups.py", "models/measuring.py",
    "latentd_tinymodel/__init__.py", "latentd_web/page.py",
}  # fmt: skip


def test_no_module_opens_files_past_the_helper() -> None:
    """Who adds an open of a path in a folder of users uses :mod:`latentd.regular`, or says above why not."""
    opens = re.compile(r"path\.open\(|(?<!def )(?<![\w.])open\(|\.read_(?:bytes|text)\(|Image\.open\(path")
    found = []
    for root in (CORE, *(plugin / "src" for plugin in PLUGINS.iterdir())):
        for path in root.rglob("*.py"):
            name = path.relative_to(root).as_posix()
            text = path.read_text(encoding="utf-8")
            found += [f"{name}: {m[0]}" for m in opens.finditer(text) if name not in _OWN and "def " not in m[0]]
    assert not found
