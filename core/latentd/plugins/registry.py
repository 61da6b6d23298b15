"""The registered items by kind and name, and the plugins that offer them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, TypeVar

from latentd.contributions import HealthSpec, ModelFile, ModelFormatSpec
from latentd.errors import NotFound, near_matches
from latentd.generations import AnyScript, ExtraNetworkSpec
from latentd.plugins.catalogue import package_hint
from latentd.plugins.contribution import Contribution
from latentd.plugins.validation import name_of
from latentd.services import (
    DetectorSpec,
    FaceRestorerSpec,
    InterrogatorSpec,
    Offered,
    PostprocessorSpec,
    PreprocessorSpec,
    UpscalerSpec,
)

if TYPE_CHECKING:
    from latentd.sampling.spec import SamplerSpec, SchedulerSpec

T = TypeVar("T")


class Registry(Offered[T]):
    """Items of one kind by name, in the order of registration.

    :param kind: the name for an item in messages ("upscaler").
    :param fold_case: whether names that differ only in case are the same (script titles).
    """

    def __init__(self, kind: str, *, fold_case: bool = False) -> None:
        self.kind = kind
        self._fold: Callable[[str], str] = str.lower if fold_case else str
        # The mapping is replaced, never changed in place, because other threads read it.
        self._items: dict[str, tuple[str, T]] = {}

    def __getitem__(self, name: str) -> T:
        return self._items[self._fold(name)][1]

    def __iter__(self) -> Iterator[str]:
        return (name_of(item) for _, item in self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def owner(self, name: str) -> str:
        """The plugin that offers ``name``."""
        return self._items[self._fold(name)][0]

    def find(self, name: str) -> T | None:
        """The item of this name or alias; if no name fits exactly, regardless of case; else None."""
        if self._fold(name) in self._items:
            return self[name]
        folded = name.lower()
        for _, item in self._items.values():
            if folded in (name_of(item).lower(), *(alias.lower() for alias in getattr(item, "aliases", ()))):
                return item
        return None

    def require(self, name: str, *, detail: str | None = None) -> T:
        """The item of exactly this name.

        :param detail: the error's message; by default ``Upscaler 'x' not found``.
        :raises NotFound: there is none; the hint has near matches or the package that offers it.
        """
        if self._fold(name) in self._items:
            return self[name]
        hint = package_hint(self.kind, name) or near_matches(name, self)
        raise NotFound(detail or f"{self.kind.capitalize()} {name!r} not found", hint=hint)

    def clashes(self, items: Iterable[T]) -> dict[str, str]:
        """Names among ``items`` that are taken, with their owners."""
        return {
            name_of(item): self._items[key][0] for item in items if (key := self._fold(name_of(item))) in self._items
        }

    def add(self, owner: str, items: Iterable[T]) -> None:
        """Add items whose names were checked with :meth:`clashes`."""
        self._items = self._items | {self._fold(name_of(item)): (owner, item) for item in items}

    def remove(self, owner: str) -> None:
        """Remove all items of ``owner``."""
        self._items = {key: entry for key, entry in self._items.items() if entry[0] != owner}


def _registry(kind: str, *, fold_case: bool = False) -> Registry[T]:
    return field(default_factory=lambda: Registry(kind, fold_case=fold_case))


@dataclass(slots=True, kw_only=True)
class Registries:
    """Every registry; the fields have the names of :class:`latentd.contributions.Contribution`."""

    samplers: Registry[SamplerSpec] = _registry("sampler")
    schedulers: Registry[SchedulerSpec] = _registry("scheduler")
    upscalers: Registry[UpscalerSpec] = _registry("upscaler")
    face_restorers: Registry[FaceRestorerSpec] = _registry("face restorer")
    detectors: Registry[DetectorSpec] = _registry("detector")
    interrogators: Registry[InterrogatorSpec] = _registry("interrogator")
    preprocessors: Registry[PreprocessorSpec] = _registry("preprocessor")
    scripts: Registry[AnyScript] = _registry("script", fold_case=True)
    postprocessors: Registry[PostprocessorSpec] = _registry("postprocessor")
    extra_networks: Registry[ExtraNetworkSpec] = _registry("extra network")
    checkpoints: Registry[ModelFile] = _registry("model file")
    model_formats: Registry[ModelFormatSpec] = _registry("model format")
    health: Registry[HealthSpec] = _registry("health check")

    def clashes(self, contribution: Contribution) -> list[str]:
        """One sentence for each name of ``contribution`` that is taken, or that it offers twice."""
        found = []
        for name in (entry.name for entry in fields(self)):
            registry, items = getattr(self, name), getattr(contribution, name)
            for taken, owner in registry.clashes(items).items():
                found.append(f"{registry.kind} {taken!r} belongs to {owner}")
            names = [name_of(item) for item in items]
            found += [f"{registry.kind} {twice!r} is offered twice" for twice in _repeated(names)]
        return found

    def commit(self, contribution: Contribution) -> None:
        """Add all items of a contribution, which must have no clashes."""
        for name in (entry.name for entry in fields(self)):
            getattr(self, name).add(contribution.plugin, getattr(contribution, name))

    def withdraw(self, owner: str) -> None:
        """Take away everything of ``owner``."""
        for name in (entry.name for entry in fields(self)):
            getattr(self, name).remove(owner)


def _repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
