"""Finding installed plugins in the metadata of distributions, without importing any of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, entry_points

from packaging.requirements import InvalidRequirement, Requirement

from latentd import __version__
from latentd.plugins.status import PluginRefused

GROUP = "latentd"
CORE_DISTRIBUTION = "latentd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An entry point of a distribution: a plugin that may be loaded."""

    name: str
    entry_point: EntryPoint
    distribution: str | None
    version: str | None

    def check_version_range(self) -> None:
        """Compare the version of this latentd with the requirement of the distribution.

        :raises PluginRefused: the requirement excludes it, or cannot be read.
        """
        for requirement in self._requirements():
            if not requirement.specifier.contains(__version__, prereleases=True):
                raise PluginRefused(
                    f"{self.distribution} {self.version} needs {CORE_DISTRIBUTION}{requirement.specifier}, "
                    f"and this is {CORE_DISTRIBUTION} {__version__}: install a matching version of either"
                )

    def _requirements(self) -> Iterable[Requirement]:
        distribution: Distribution | None = self.entry_point.dist
        for text in (distribution.requires if distribution else None) or ():
            try:
                requirement = Requirement(text)
            except InvalidRequirement as error:
                raise PluginRefused(
                    f"{self.distribution} states a requirement that cannot be read: {text!r}"
                ) from error
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if canonical(requirement.name) == CORE_DISTRIBUTION and applies:
                yield requirement


def discover(group: str = GROUP) -> list[Candidate]:
    """Every entry point of ``group``, sorted by name and distribution."""
    candidates = [
        Candidate(
            name=point.name,
            entry_point=point,
            distribution=point.dist.name if point.dist else None,
            version=point.dist.version if point.dist else None,
        )
        for point in entry_points(group=group)
    ]
    return sorted(candidates, key=lambda candidate: (candidate.name, candidate.distribution or ""))


def canonical(name: str) -> str:
    """``name`` in the form in which names of distributions are compared: lower case, runs of ``-_.`` as one hyphen."""
    return re.sub(r"[-_.]+", "-", name).lower()


def answers_to(names: Iterable[str], name: str, distribution: str | None) -> bool:
    """Whether one of ``names`` means a plugin: its entry point, or its distribution with or without the prefix."""
    own = {canonical(name)}
    if distribution:
        own |= {canonical(distribution), canonical(distribution).removeprefix("latentd-")}
    return any(canonical(wanted) in own for wanted in names)
