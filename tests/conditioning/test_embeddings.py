from __future__ import annotations

import base64
import json
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from latentd.conditioning.embeddings import Embedding, EmbeddingStore
from latentd.errors import ModelLoadError
from latentd.models.files.hashes import HashCache
from latentd.prompts.tokenizer import clip_tokenizer

DATA = {"string_to_param": {"*": {"TORCHTENSOR": [[1.0, 2.0], [3.0, 4.0]]}}, "name": "drawn", "step": 7}


def scrambled(payload: bytes) -> Image.Image:
    """A picture with ``payload`` in side panels, as A1111 drew its embedding cards."""
    packed = np.frombuffer(payload + b"\0" * (-len(payload) % 24), dtype=np.uint8)
    state, mask = 0, np.empty(len(packed), dtype=np.uint8)
    for index in range(len(packed)):
        state = (1664525 * state + 1013904223) % 2**32
        mask[index] = state % 255
    shape = (8, len(packed) // 24, 3)
    low = ((packed & 0x0F) ^ (mask & 0x0F)).reshape(shape) | 0x50
    high = ((packed >> 4) ^ (mask & 0x0F)).reshape(shape) | 0x50
    middle = np.full((8, 6, 3), 0x10, dtype=np.uint8)
    return Image.fromarray(np.concatenate([low, middle, high], axis=1).astype(np.uint8))


def test_every_format_is_read(tmp_path: Path) -> None:
    torch.save({"string_to_param": {"*": torch.ones(2, 4)}, "step": 100, "name": "inner"}, tmp_path / "classic.pt")
    save_file({"emb_params": torch.ones(3, 4)}, tmp_path / "plain.safetensors")
    save_file({"clip_l": torch.ones(1, 4), "clip_g": torch.ones(1, 6)}, tmp_path / "xl.safetensors")
    save_file(
        {"text_encoders_0": torch.ones(2, 4), "text_encoders_1": torch.ones(2, 6)}, tmp_path / "pivotal.safetensors"
    )
    torch.save({"anything": torch.ones(4)}, tmp_path / "single.bin")
    info = PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(json.dumps(DATA).encode()).decode())
    Image.new("RGB", (8, 8)).save(tmp_path / "card.png", pnginfo=info)
    Image.new("RGB", (8, 8), "white").save(tmp_path / "picture.png")
    store = EmbeddingStore([tmp_path])
    assert {n: (e.count, e.width) for n, e in store.all().items()} == {
        "classic": (2, 4), "drawn": (2, 2), "pivotal": (2, 10), "plain": (3, 4), "single": (1, 4), "xl": (1, 10),
    }  # fmt: skip
    assert store.problems == {}


def test_an_embedding_hidden_in_pixels_is_found(tmp_path: Path) -> None:
    scrambled(zlib.compress(json.dumps(DATA).encode())).save(tmp_path / "card.png")
    (found,) = EmbeddingStore([tmp_path]).all().values()
    assert found.name == "drawn"
    assert found.vectors[""].tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_rows_tell_fitting_from_skipped(tmp_path: Path) -> None:
    torch.save({"string_to_param": {"*": torch.ones(2, 4)}, "step": 100}, tmp_path / "fits.pt")
    save_file({"emb_params": torch.ones(3, 6)}, tmp_path / "wide.safetensors")
    rows = EmbeddingStore([tmp_path]).rows(4)
    empty = {"step": None, "sd_checkpoint": None, "sd_checkpoint_name": None}
    assert rows == {
        "loaded": {"fits": empty | {"step": 100, "shape": 4, "vectors": 2}},
        "skipped": {"wide": empty | {"shape": 6, "vectors": 3}},
    }


@pytest.mark.parametrize(
    "data",
    [
        {"string_to_param": {"a": torch.ones(1, 4), "b": torch.ones(1, 4)}},
        {"a": 1},
        {"a": torch.ones(1, 2, 3)},
        {"a": torch.ones(1, 2).long()},
        {"a": torch.tensor(1.0)},
        {"string_to_param": 3},
    ],
)
def test_what_is_no_embedding_is_left_out_with_a_reason(tmp_path: Path, data: dict[str, object]) -> None:
    torch.save(data, tmp_path / "bad.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    store = EmbeddingStore([tmp_path])
    assert store.all() == {}
    assert set(store.problems) == {"bad.pt", "broken.safetensors"}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_vectors_that_are_no_number_fail_their_request_and_are_named(tmp_path: Path, suffix: str) -> None:
    save = torch.save if suffix == ".pt" else save_file
    save({"a": torch.tensor([[1.0, float("nan")]])}, tmp_path / f"bad{suffix}")
    (embedding,) = EmbeddingStore([tmp_path]).all().values()
    with pytest.raises(ModelLoadError, match=r"'bad'.*NaN") as refused:
        assert embedding.vectors
    assert refused.value.status == 422


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_scan_reads_headers_and_vectors_come_with_their_first_use(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"late{suffix}"
    (torch.save if suffix == ".pt" else save_file)({"a": torch.ones(3, 4).half()}, path)
    hashes = HashCache(tmp_path / "cache")
    with monkeypatch.context() as patch:
        for module in ("torch", "safetensors"):
            patch.setitem(sys.modules, module, None)  # an import of it fails
        (embedding,) = EmbeddingStore([tmp_path], hashes).all().values()
        assert (embedding.count, embedding.width) == (3, 4)
        assert hashes.known(path) is None, "the scan read the whole file"
    assert torch.equal(embedding.vectors[""], torch.ones(3, 4))
    assert embedding.vectors[""].dtype == torch.float32
    assert embedding.vectors is embedding.vectors


def test_an_embedding_that_changed_since_the_scan_fails_its_request(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3, 4)}, tmp_path / "e.safetensors")
    (embedding,) = EmbeddingStore([tmp_path]).all().values()
    save_file({"a": torch.ones(2, 4)}, tmp_path / "e.safetensors")
    with pytest.raises(ModelLoadError, match="'e' has changed"):
        assert embedding.vectors


def test_what_is_shown_is_seen_on_its_own_thread_alone(tmp_path: Path) -> None:
    """A training's preview on one device must not lend its vectors to a generation on another."""
    torch.save({"string_to_param": {"*": torch.ones(2, 4)}}, tmp_path / "known.pt")
    store = EmbeddingStore([tmp_path])
    filed = store.all()["known"]
    shown = [Embedding.of(name, "", {"": torch.zeros(1, 4)}) for name in ("known", "new")]
    with ThreadPoolExecutor(1) as elsewhere:
        for embedding in shown:
            with store.showing(embedding):
                assert store.all()[embedding.name] is embedding
                assert elsewhere.submit(store.all).result() == {"known": filed}
    assert store.all() == {"known": filed}


def test_the_longest_name_is_matched(tmp_path: Path) -> None:
    save_file({"emb_params": torch.ones(1, 4)}, tmp_path / "red.safetensors")
    save_file({"emb_params": torch.ones(2, 4)}, tmp_path / "red cat.safetensors")
    tokenizer = clip_tokenizer()
    matcher = EmbeddingStore([tmp_path]).matcher(tokenizer, 4)
    ids = tokenizer.encode("a red cat red")
    names = [found.name if (found := matcher.find(ids, i)) else None for i in range(4)]
    assert names == [None, "red cat", None, "red"]


def test_short_hash_is_the_files(tmp_path: Path) -> None:
    save_file({"emb_params": torch.ones(1, 4)}, tmp_path / "e.safetensors")
    hashes = HashCache(tmp_path / "cache")
    (embedding,) = EmbeddingStore([tmp_path], hashes).all().values()
    assert embedding.short_hash == str(hashes.sha256(tmp_path / "e.safetensors"))[:12]
