"""Where a model is fetched from: Hugging Face, Civitai, or a plain URL. Only this command asks any of them."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, ValidationError

from latentd.errors import InvalidRequest, NotFound

CIVITAI = "https://civitai.com"
WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_TIMEOUT = 30.0
_MOST = 8 << 20
_NAME = re.compile(r"[^/\\\x00-\x1f\x7f<>:\"|?*]{1,200}")
_REPOSITORY = re.compile(r"(?:hf:)?([\w.-]+/[\w.-]+)(?::(.+))?")
#: Civitai's types of models → folders below models/.
_KINDS = {
    "Checkpoint": "Stable-diffusion",
    "LORA": "Lora",
    "LoCon": "Lora",
    "DoRA": "Lora",
    "VAE": "VAE",
    "TextualInversion": "embeddings",
    "Hypernetwork": "hypernetworks",
    "Controlnet": "ControlNet",
    "Upscaler": "ESRGAN",
}
_FOLDER_FILES = (".json", ".txt", ".model", ".safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file of a model.

    :param name: its path within the model: one name, or several in a folder.
    :param sha256: what it must be; None where the hub does not say.
    :param token: sent to ``url``'s own host, and to no other that it leads to.
    """

    url: str
    name: str
    sha256: str | None = None
    size: int | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model that can be fetched.

    :param kind: its folder below models/, if the hub says so.
    :param folder: the name of the folder that its files make; None for a single file.
    """

    files: tuple[SourceFile, ...]
    kind: str | None = None
    folder: str | None = None


def find_source(name: str, *, revision: str | None = None, sha256: str | None = None) -> Source:
    """What ``name`` means.

    :raises NotFound: there is no such model. :raises InvalidRequest: the name is none, or means several files.
    """
    if name.startswith(("http://", "https://")):
        return _of_url(name, sha256)
    if name.startswith("civitai:"):
        return _civitai(name.removeprefix("civitai:"), sha256)
    if found := _REPOSITORY.fullmatch(name):
        return _hugging_face(found[1], found[2], revision, sha256)
    raise InvalidRequest(f"{name!r} is no name of a model", hint="owner/repository[:file], civitai:VERSION or a URL")


def safe_name(name: str) -> str:
    """``name``, checked to be the name of a file and no path.

    :raises InvalidRequest: it is not.
    """
    if not _NAME.fullmatch(name) or name.startswith(".") or name != name.strip():
        raise InvalidRequest(f"{name[:200]!r} is no name for a file")
    return name


# --- plain URLs ------------------------------------------------------------------------------------------------------


def _of_url(url: str, sha256: str | None) -> Source:
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc == urlsplit(_civitai_address()).netloc and (parts.query or path.startswith("/api/download/")):
        version = parse_qs(parts.query).get("modelVersionId", [""])[0] or path.rpartition("/")[2]
        return _civitai(version, sha256)
    hub = urlsplit(_hub_address())
    if parts.netloc == hub.netloc and (found := re.match(r"/([^/]+/[^/]+)/(?:resolve|blob)/([^/]+)/(.+)", path)):
        return _hugging_face(found[1], found[3], found[2], sha256)
    file = SourceFile(url=url, name=safe_name(PurePosixPath(path).name), sha256=sha256)
    return Source(files=(file,))


# --- Hugging Face ----------------------------------------------------------------------------------------------------


def _hub_address() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _hugging_face(repository: str, file: str | None, revision: str | None, sha256: str | None) -> Source:
    from huggingface_hub import HfApi, get_token, hf_hub_url
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    address, token = _hub_address(), get_token()
    try:
        info = HfApi(endpoint=address, token=token).model_info(repository, revision=revision, files_metadata=True)
    except GatedRepoError as error:
        hint = f"accept its terms at {address}/{repository}, and set HF_TOKEN"
        raise NotFound(f"{repository} is given to those who accepted its terms", hint=hint) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise NotFound(f"{address} has no {repository}{f' at {revision}' if revision else ''}") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise NotFound(f"{address} cannot be asked for {repository}: {type(error).__name__}") from error
    known = {sibling.rfilename: sibling for sibling in info.siblings or ()}

    def source_file(path: str, name: str, sha256: str | None = None) -> SourceFile:
        sibling = known[path]
        digest = sha256 or (sibling.lfs.sha256 if sibling.lfs else None)
        url = hf_hub_url(repository, path, revision=info.sha or revision, endpoint=address)
        return SourceFile(url=url, name=name, sha256=digest, size=sibling.size, token=token)

    if file is not None:
        if file not in known:
            raise NotFound(f"{repository} has no file {file!r}", hint=_listed(sorted(_weights(known))))
        return Source(files=(source_file(file, safe_name(PurePosixPath(file).name), sha256),))
    single = [path for path in _weights(known) if "/" not in path]
    if "model_index.json" in known and len(single) != 1:
        paths = _folder_files(known)
        for part in (part for path in paths for part in path.split("/")):
            safe_name(part)
        folder = safe_name(repository.replace("/", "--"))
        files = tuple(source_file(path, path) for path in paths)
        return Source(files=files, kind="Stable-diffusion", folder=folder)
    if len(single) != 1:
        some = sorted(_weights(known))
        raise InvalidRequest(f"{repository} has {len(some) or 'no'} files of weights", hint=_listed(some, repository))
    return Source(files=(source_file(single[0], safe_name(single[0]), sha256),))


def _weights(names: Mapping[str, object]) -> list[str]:
    return [name for name in names if name.endswith(WEIGHTS)]


def _folder_files(names: Mapping[str, object]) -> list[str]:
    """The files of a model in diffusers' layout: its parts, each with the plain variant of its weights."""
    parts = [name for name in names if name.count("/") == 1 and name.endswith(_FOLDER_FILES)]
    plain = [name for name in parts if PurePosixPath(name).name.count(".") == 1 or not name.endswith(".safetensors")]
    with_plain = {name.partition("/")[0] for name in plain if name.endswith(".safetensors")}
    others = [name for name in parts if name.endswith(".fp16.safetensors") and name.partition("/")[0] not in with_plain]
    return ["model_index.json", *sorted({*plain, *others})]


def _listed(names: Sequence[str], repository: str = "") -> str | None:
    if not names:
        return None
    shown = ", ".join(f"{repository}:{name}" if repository else name for name in names[:10])
    return f"{'one of ' if repository else 'it has '}{shown}{' ...' if len(names) > 10 else ''}"


# --- Civitai ---------------------------------------------------------------------------------------------------------


class _CivitaiHashes(BaseModel):
    SHA256: str | None = None


class _CivitaiFile(BaseModel):
    name: str
    downloadUrl: str | None = None  # noqa: N815 (as Civitai spells it)
    primary: bool | None = None
    hashes: _CivitaiHashes | None = None


class _CivitaiModel(BaseModel):
    type: str | None = None


class _CivitaiVersion(BaseModel):
    """What is read of Civitai's document of a version."""

    files: list[_CivitaiFile] | None = None
    model: _CivitaiModel | None = None


def _civitai_address() -> str:
    return os.environ.get("CIVITAI_ENDPOINT", CIVITAI).rstrip("/")


def _civitai(version: str, sha256: str | None) -> Source:
    if not version.isdecimal():
        raise InvalidRequest(
            f"{version!r} is no version of Civitai", hint="the number after modelVersionId= in its address"
        )
    address, token = _civitai_address(), os.environ.get("CIVITAI_API_TOKEN") or None
    document = _asked(f"{address}/api/v1/model-versions/{version}", token, f"Civitai's version {version}")
    files = [file for file in document.files or () if file.downloadUrl and file.name.endswith(WEIGHTS)]
    if not files:
        raise NotFound(f"Civitai's version {version} has no file of weights")
    chosen = next((file for file in files if file.primary), files[0])
    kind = _KINDS.get(document.model.type or "") if document.model is not None else None
    digest = sha256 or (chosen.hashes or _CivitaiHashes()).SHA256
    name = safe_name(chosen.name)
    url = str(chosen.downloadUrl)
    if urlsplit(url).netloc != urlsplit(address).netloc:
        token = None
    file = SourceFile(url=url, name=name, sha256=digest.lower() if digest else None, token=token)
    return Source(files=(file,), kind=kind)


def _asked(url: str, token: str | None, what: str) -> _CivitaiVersion:
    request = urllib.request.Request(url, headers={"User-Agent": "latentd", "Accept": "application/json"})
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as reply:
            return _CivitaiVersion.model_validate_json(reply.read(_MOST))
    except urllib.error.HTTPError as error:
        raise NotFound(f"{what} is not there: status {error.code}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise NotFound(f"{what}: the answer cannot be read, {where}: {first['msg']}") from error
    except (OSError, HTTPException) as error:
        raise NotFound(f"{what} cannot be asked for: {error}") from error
