"""The options of a running server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from latentd.contributions import OptionSpec
from latentd.errors import InvalidRequest, NotStored
from latentd.options.coerce import coerce, reply_value
from latentd.options.config_file import read_config, write_config
from latentd.options.declared import CORE_OPTIONS
from latentd.options.early import migrated, with_counterparts
from latentd.options.policy import WritePolicy
from latentd.options.snapshot import Snapshot
from latentd.types import JsonValue, OptionValues

if TYPE_CHECKING:
    from latentd.settings import Settings

logger = logging.getLogger(__name__)

OnChange = Callable[[JsonValue], None]
CORE = "latentd"


class OptionStore(Mapping[str, JsonValue]):
    """The present value of every option. Reading never waits; writes happen one after another.

    :param path: the config.json to read and write; None if options are kept in memory only.
    :param policy: which options may be written over the API.
    """

    def __init__(self, path: Path | None = None, policy: WritePolicy | None = None) -> None:
        self.path = path
        self.policy = policy or WritePolicy()
        self._lock = RLock()
        self._specs: dict[str, OptionSpec] = {}
        self._owners: dict[str, str] = {}
        self._callbacks: dict[str, list[OnChange]] = {}
        # The mapping is replaced, never changed in place, so that readers need no lock.
        self._values: dict[str, JsonValue] = {}
        self._unknown: dict[str, JsonValue] = migrated(read_config(path)) if path else {}
        self.register(CORE, CORE_OPTIONS)

    @classmethod
    def from_settings(cls, settings: Settings) -> OptionStore:
        """The store for the settings file that the flags name."""
        store = cls(settings.paths.config_file, WritePolicy.from_settings(settings))
        store.policy = store.policy.with_outputs(store)
        return store

    # --- declaration -------------------------------------------------------------------------------------------------

    def register(self, owner: str, specs: Iterable[OptionSpec]) -> None:
        """Add options of a plugin; values for them in config.json take effect.

        :raises ValueError: a key is declared already; the message names the other owner, and nothing is added.
        """
        specs = list(specs)
        with self._lock:
            if clashes := self.clashes(spec.key for spec in specs):
                raise ValueError("; ".join(f"option {key!r} belongs to {other}" for key, other in clashes.items()))
            values = {spec.key: self._initial(spec) for spec in specs}
            self._specs |= {spec.key: spec for spec in specs}
            self._owners |= dict.fromkeys(values, owner)
            self._values = self._values | values
            for key in values:
                self._unknown.pop(key, None)

    def withdraw(self, owner: str) -> None:
        """Remove the options of ``owner``; their values stay in config.json."""
        with self._lock:
            gone = [key for key, other in self._owners.items() if other == owner]
            self._unknown |= {key: self._values[key] for key in gone}
            self._values = {key: value for key, value in self._values.items() if key not in gone}
            for key in gone:
                del self._specs[key], self._owners[key]

    def clashes(self, keys: Iterable[str]) -> dict[str, str]:
        """Those of ``keys`` that are declared already, with their owners."""
        return {key: self._owners[key] for key in keys if key in self._owners}

    def spec(self, key: str) -> OptionSpec:
        """The declaration of ``key``.

        :raises KeyError: no such option.
        """
        return self._specs[key]

    def specs(self) -> list[OptionSpec]:
        """Every declaration, in order."""
        return list(self._specs.values())

    def owner(self, key: str) -> str:
        """The plugin that declared ``key``; ``latentd`` for the core's."""
        return self._owners[key]

    # --- reading -----------------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> JsonValue:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def snapshot(self, overrides: OptionValues | None = None) -> Snapshot:
        """All values with ``overrides`` applied, as a plan needs them.

        Unknown and restricted keys are ignored and listed in the snapshot's ``ignored``.

        :raises InvalidRequest: an override cannot be read as the option's type.
        :raises NotConfigured: an override changes a frozen option.
        """
        values = self._values
        accepted, ignored = self._accepted(overrides or {}, values, from_api=True)
        return Snapshot(values, accepted, ignored=ignored)

    def body(self) -> dict[str, JsonValue]:
        """The body of ``GET /sdapi/v1/options``."""
        values = self._values
        return {key: reply_value(spec, values[key]) for key, spec in list(self._specs.items()) if key in values}

    # --- writing -----------------------------------------------------------------------------------------------------

    def update(self, changes: OptionValues, *, from_api: bool = True) -> list[str]:
        """Set options and write config.json; returns the keys whose values changed.

        If one value is refused, no option changes. If a callback raises an exception, its option gets its old value
        back, and the exception is raised again after the other callbacks.

        :param from_api: False for the server's own writes, to which no restriction applies.
        :raises InvalidRequest: a value cannot be read as the option's type.
        :raises NotConfigured: an option is frozen by a flag.
        :raises NotStored: the options are set, but config.json could not be written (``from_api`` only).
        """
        with self._lock:
            before = self._values
            changed, ignored = self._accepted(changes, before, from_api=from_api)
            self._values = before | changed
        for key, reason in ignored.items():
            logger.warning("option %r left as it is: %s", key, reason)
        failures = self._notify(changed, before)
        if failures:
            self._try_to_save()
            raise failures[0]
        if changed and from_api:
            self.save()
        elif changed:
            self._try_to_save()
        return list(changed)

    def on_change(self, key: str, callback: OnChange) -> None:
        """Call ``callback(value)`` whenever ``key`` has been set to another value."""
        self._callbacks.setdefault(key, []).append(callback)

    def save(self) -> None:
        """Write config.json: all options, and the keys that are not declared.

        :raises NotStored: the file cannot be written; the options keep their values until the server ends.
        """
        if self.path is None:
            return
        with self._lock:
            try:
                write_config(self.path, {**self._unknown, **self._values})
            except OSError as error:
                logger.error("the options could not be written to %s: %s", self.path, error)
                raise NotStored(
                    f"the options are set but could not be written to {self.path.name}: {error.strerror or error}",
                    hint="they count until the server ends",
                ) from error

    def _try_to_save(self) -> None:
        """Save the options; a failure is only logged, because there is no caller to whom it could be reported."""
        with suppress(NotStored):
            self.save()

    def _initial(self, spec: OptionSpec) -> JsonValue:
        if spec.key not in self._unknown or not _kept_in_file(spec):
            return spec.default
        try:
            return coerce(spec, self._unknown[spec.key])
        except InvalidRequest as error:
            logger.warning("%s: %s; the default is used", self.path, error.detail)
            return spec.default

    def _accepted(
        self, changes: OptionValues, current: OptionValues, *, from_api: bool
    ) -> tuple[dict[str, JsonValue], dict[str, str]]:
        """The changes that differ from ``current``, with their types and counterparts, and why others are ignored."""
        accepted: dict[str, JsonValue] = {}
        ignored: dict[str, str] = {}
        for key, raw in changes.items():
            spec = self._specs.get(key)
            if spec is None:
                ignored[key] = "there is no such option"
                continue
            value = coerce(spec, raw)
            if _same(value, current[key]):
                continue
            if from_api:
                if (objection := self.policy.objection(spec, value)) is not None:
                    ignored[key] = objection
                    continue
                self.policy.check_unfrozen(spec)
            accepted[key] = value
        complete = with_counterparts(accepted, current)
        return {key: value for key, value in complete.items() if not _same(value, current[key])}, ignored

    def _notify(self, changed: Mapping[str, JsonValue], before: Mapping[str, JsonValue]) -> list[Exception]:
        failures: list[Exception] = []
        for key, value in changed.items():
            try:
                for callback in self._callbacks.get(key, ()):
                    callback(value)
            except Exception as error:
                logger.exception("setting option %s failed; it keeps its value", key)
                failures.append(error)
                with self._lock:
                    self._values = self._values | {key: before[key]}
        return failures


def _kept_in_file(spec: OptionSpec) -> bool:
    # Notes for web pages are texts of the program, so those in a file from AUTOMATIC1111 are not used.
    return spec.affects != "ui" or spec.api_writable


def _same(value: JsonValue, other: JsonValue) -> bool:
    return type(value) is type(other) and bool(value == other)
