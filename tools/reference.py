"""Writes the pages of docs/reference that the code itself knows best: hooks, values, options, flags, endpoints.

``python tools/reference.py`` writes them; ``--check`` says which are out of date and ends with 1. The plugins of this
tree are read, too, installed or not: importing one costs nothing.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
NOTE = "% Written by tools/reference.py from the code: change that, and run it again.\n\n"
_EFFECTS = {"ui": " (kept, without effect here)", "training": " (with the plugin training)"}
_GROUP = re.compile(r"^# --- (.+?) -+$")
_ALIAS = re.compile(r'^(\w+): TypeAlias = (.+)\n"""(.+)"""$', re.MULTILINE)
_PARAM = re.compile(r":(?:param|ivar) (\w+): ")
_RAISES = re.compile(r":raises (\w+): ")


def main(arguments: list[str]) -> int:
    """0 when all is written, or with ``--check`` is as it would be."""
    stale = []
    for name, make in GENERATED.items():
        path, text = PAGES / name, make()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    if stale and "--check" in arguments:
        print(f"out of date: {', '.join(stale)}; run python tools/reference.py")
        return 1
    return 0


# --- hooks and values ------------------------------------------------------------------------------------------------


def hooks_page() -> str:
    """Every hook under a heading that is its signature."""
    from latentd import hookspecs

    parts = [NOTE, "# Hooks\n\n", HOOKS_INTRODUCTION]
    groups = _groups(inspect.getsource(hookspecs))
    last = None
    for name, spec in hooks().items():
        if groups[name] != last:
            last = groups[name]
            parts.append(f"## {last[0].upper()}{last[1:]}\n\n")
        parts.append(f"### `{signature(spec)}`\n\n{prose(spec.__doc__)}\n\n")
        if getattr(spec, "latentd_spec", {}).get("firstresult"):
            parts.append("Plugins are asked in turn; the first result that is not None wins.\n\n")
    return "".join(parts).rstrip() + "\n"


def hooks() -> dict[str, Callable[..., Any]]:
    """Every hook's specification by name, in the order of the contract."""
    from latentd import hookspecs

    return {name: value for name, value in vars(hookspecs).items() if hasattr(value, "latentd_spec")}


def signature(function: Callable[..., Any]) -> str:
    """``name(argument: type) -> type`` as written in the source."""
    given = inspect.signature(function)
    arguments = ", ".join(
        str(p.name) if p.annotation is p.empty else f"{p.name}: {p.annotation}" for p in given.parameters.values()
    )
    return f"{function.__name__}({arguments}) -> {given.return_annotation}"


def values_page() -> str:
    """The values that plugins hand over, and the classes that they derive from."""
    from latentd import contributions, generations, services
    from latentd.sampling import spec

    parts = [NOTE, "# Values and base classes\n\n", VALUES_INTRODUCTION]
    handed_over = (
        *_dataclasses(contributions),
        *_dataclasses(services),
        generations.ExtraNetworkSpec,
        spec.SamplerSpec,
        spec.SchedulerSpec,
    )
    for cls in handed_over:
        parts.append(f"## `{cls.__name__}`\n\n{prose(cls.__doc__)}\n\n")
        parts.append(table(("field", "type", "default"), [_field_row(f) for f in dataclasses.fields(cls)]))
    for cls in (generations.Script, generations.UNetHook):
        parts.append(f"## `{cls.__name__}`\n\n{prose(cls.__doc__)}\n\n")
        base = cls.__mro__[1]  # a script's form
        for name, member in {**vars(base), **vars(cls)}.items():
            if inspect.isfunction(member) and not name.startswith("_"):
                said = prose(member.__doc__) or f"As the hook `{name}`."
                parts.append(f"`{signature(member)}`\n: {said.replace(chr(10), chr(10) + '  ')}\n\n")
    return "".join(parts).rstrip() + "\n"


def face_page() -> str:
    """Every name of ``latentd.api`` with where it is told of, or its own docstring."""
    from latentd import api, generations, types
    from latentd.engine import far

    told = dict.fromkeys(hooks(), "hooks.md") | dict.fromkeys(_titles(values_page()), "values.md")
    aliases = {**_aliases(types), **_aliases(generations), **_aliases(far)}
    parts = [NOTE, "# The public face\n\n", FACE_INTRODUCTION]
    for name in api.__all__:
        value = getattr(api, name)
        module = getattr(value, "__module__", "")
        parts.append(f"## `{_heading(name, value)}`\n\n")
        if name in told:
            parts.append(f"[Values and base classes]({told[name]}#{name.lower()}).\n\n")
        elif name in aliases:
            parts.append(f"{aliases[name]}\n\n")
        elif isinstance(value, type) and value.__name__ in api.__all__ and value.__name__ != name:
            current = value.__name__
            parts.append(
                f"The former name of [`{current}`](#{current.lower()}); it goes with the next minor version.\n\n"
            )
        elif module.startswith("latentd"):
            parts.append(f"{prose(value.__doc__)}\n\n")
        else:
            parts.append(f"`{getattr(value, '__qualname__', type(value).__name__)}` of `{module}`.\n\n")
    return "".join(parts).rstrip() + "\n"


def testing_page() -> str:
    """Every name of ``latentd.testing``, and the functions of its tiny models."""
    from latentd import testing
    from latentd.testing import tiny_models

    parts = [NOTE, "# For tests\n\n", TESTING_INTRODUCTION]
    for name in testing.__all__:
        value = getattr(testing, name)
        parts.append(f"## `{_heading(name, value)}`\n\n{prose(value.__doc__)}\n\n")
        if inspect.isclass(value) and "__call__" in vars(value):
            parts.append(f"{prose(value.__call__.__doc__)}\n\n")
    parts.append(f"## `tiny_models`\n\n{prose(tiny_models.__doc__)}\n\n")
    for name, value in vars(tiny_models).items():
        if getattr(value, "__module__", None) == tiny_models.__name__ and not name.startswith("_"):
            parts.append(f"### `{_heading(name, value)}`\n\n{prose(value.__doc__)}\n\n")
    return "".join(parts).rstrip() + "\n"


def _heading(name: str, value: Any) -> str:
    """A function's signature under the name that plugins use, else the name."""
    if not inspect.isfunction(value):
        return name
    return signature(value).replace(value.__name__, name, 1)


def _titles(page: str) -> list[str]:
    return re.findall(r"^## `(\w+)`$", page, flags=re.MULTILINE)


def _aliases(module: ModuleType) -> dict[str, str]:
    """Name → what is said below it, of a module's named types."""
    return {name: f"`{value}`: {prose(said)}" for name, value, said in _ALIAS.findall(inspect.getsource(module))}


def _dataclasses(module: ModuleType) -> Iterator[type]:
    for value in vars(module).values():
        ours = getattr(value, "__module__", None) == module.__name__
        if ours and isinstance(value, type) and dataclasses.is_dataclass(value) and value.__name__ != "Contribution":
            yield value


def _field_row(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    if field.default is not dataclasses.MISSING:
        default = "a function" if callable(field.default) else f"`{field.default!r}`"
    else:
        default = "empty" if field.default_factory is not dataclasses.MISSING else "needed"
    return f"`{field.name}`", f"`{field.type}`", default


def _groups(source: str) -> dict[str, str]:
    """Function name → the heading comment above it."""
    groups, current = {}, ""
    for line in source.splitlines():
        if match := _GROUP.match(line):
            current = match.group(1)
        elif line.startswith("def "):
            groups[line[4 : line.index("(")]] = current
    return groups


# --- options and flags -----------------------------------------------------------------------------------------------


def options_page() -> str:
    """Every option with type, default, range and effect."""
    from latentd.options.declared import CORE_OPTIONS

    parts = [NOTE, "# Options\n\n", OPTIONS_INTRODUCTION]
    sections: dict[str, list[Any]] = {}
    for option in CORE_OPTIONS:
        sections.setdefault(option.section or "others", []).append(option)
    for section, options in sections.items():
        parts += [f"## {section}\n\n", _options_table(options)]
    for name, module in plugins().items():
        if hasattr(module, "register_options"):
            parts += [f"## {name}\n\n", _options_table(module.register_options())]
    return "".join(parts).rstrip() + "\n"


def _options_table(options: Iterable[Any]) -> str:
    rows = []
    for option in options:
        kind = type(option.default).__name__ if option.default is not None else "str"
        effect = option.help + _EFFECTS.get(option.affects, "")
        notes = [f"infotext: {option.infotext}"] if option.infotext else []
        notes += [] if option.api_writable else ["not writable over the API"]
        rows.append(
            (
                f"`{option.key}`",
                f"{kind}{' or null' if option.nullable else ''}{_bounds(option)}",
                f"`{option.default!r}`" if option.default != "" else "empty",
                "; ".join([effect, *notes]),
            )
        )
    return table(("key", "type", "default", "effect"), rows)


def _bounds(option: Any) -> str:
    if isinstance(option.choices, (list, tuple)):
        return ": " + ", ".join(str(choice) for choice in option.choices)
    low, high = option.minimum, option.maximum
    if low is None and high is None:
        return ""
    return f", {low if low is not None else ''} to {high if high is not None else 'any'}"


def flags_page() -> str:
    """Every flag with its environment variable."""
    from latentd.settings.flag import declared_flags
    from latentd.settings.parse import PREFIX, spelling
    from latentd.settings.settings import Settings

    groups: dict[str, list[tuple[str, ...]]] = {}
    for name, (flag, default) in declared_flags(Settings).items():
        names = [*flag.extra_names] if len(name) == 1 else [spelling(name), *flag.extra_names]
        shown = "" if default in (None, (), {}, "") or isinstance(default, bool) else f"`{default}`"
        effect = flag.help + ("" if flag.acts else " (accepted, without effect here)")
        values = f" ({', '.join(flag.choices)})" if flag.choices else ""
        row = (", ".join(f"`{n}`" for n in names), flag.kind + values, shown, effect, f"`{PREFIX}{name.upper()}`")
        groups.setdefault(flag.group, []).append(row)
    parts = [NOTE, "# Flags\n\n", FLAGS_INTRODUCTION]
    for group, rows in groups.items():
        parts += [f"## {group}\n\n", table(("flag", "kind", "default", "effect", "variable"), rows)]
    return "".join(parts).rstrip() + "\n"


# --- endpoints -------------------------------------------------------------------------------------------------------


def endpoints_page() -> str:
    """Every endpoint of the core and of this tree's plugins."""
    parts = [NOTE, "# Endpoints\n\n", ENDPOINTS_INTRODUCTION]
    for owner, rows in endpoints().items():
        parts += [f"## {owner}\n\n", table(("method", "path", "what it does"), rows)]
    return "".join(parts).rstrip() + "\n"


def endpoints() -> dict[str, list[tuple[str, ...]]]:
    """Owner → (methods, path, first line of the route's docstring), in the order of registration."""
    from latentd.server.services import create_services
    from latentd.settings import parse_settings

    found: dict[str, list[tuple[str, ...]]] = {}
    with tempfile.TemporaryDirectory() as data:
        settings = parse_settings(["--data-dir", data, "--core-only", "--api-server-stop"], environment={})
        services = create_services(settings, extra_plugins=plugins().items())
        for owner, router in services.host.routers():
            for route in router.routes:
                methods = " ".join(sorted(set(route.methods) - {"HEAD"}))
                said = prose((route.endpoint.__doc__ or "").strip().splitlines()[0])
                title = "Core" if owner.startswith("latentd.") else owner
                found.setdefault(title, []).append((methods, f"`{route.path}`", said))
        services.close()
    return found


def plugins() -> dict[str, Any]:  # modules, and objects with hooks as methods
    """Distribution name → plugin, of every plugin in this tree."""
    found: dict[str, Any] = {}
    for project in sorted((ROOT / "plugins").glob("*/pyproject.toml")):
        declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        for target in declared.get("entry-points", {}).get("latentd", {}).values():
            sys.path.append(str(project.parent / "src"))
            module, _, name = target.partition(":")
            found[declared["name"]] = getattr(import_module(module), name) if name else import_module(module)
    return found


# --- text ------------------------------------------------------------------------------------------------------------


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, ("---",) * len(heads))]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n\n"


def prose(docstring: str | None) -> str:
    """A docstring as Markdown."""
    text = re.sub(r"::$", ":", inspect.cleandoc(docstring or ""), flags=re.MULTILINE)
    text = re.sub(r":(?:class|meth|attr|func):`[\w.]*?(\w+)`", r"`\1`", text).replace("``", "`")
    text = re.sub(r"(?<=\S) (?=:param |:ivar |:raises )", "\n", text)
    text = _PARAM.sub(r"- `\1`: ", text)
    return _RAISES.sub(r"- raises `\1`: ", text)


HOOKS_INTRODUCTION = """A plugin is a module with functions of these names, marked with `latentd.api.hookimpl`. An
implementation may leave arguments out that it has no use for; one that names an argument which the hook has not got is
refused when the plugin is loaded. The values that go in and come out are described under [values](values.md).

"""
VALUES_INTRODUCTION = "All of them are imported from `latentd.api`. Dataclasses take keywords only and are frozen.\n\n"
FACE_INTRODUCTION = """What a plugin may import: `from latentd.api import ...`. Every name is typed, also those that are
imported when they are first asked for, since FastAPI and torch take seconds. Nothing else of `latentd` is kept stable;
[`latentd.testing`](testing.md) is for tests.

"""
TESTING_INTRODUCTION = """What a plugin's tests may import: `from latentd.testing import ...`. It needs pytest; the
fixture `latentd_app` needs httpx as well. With these a plugin's suite runs wherever the plugin and latentd are
installed: nothing of latentd's own tests is needed.

"""
OPTIONS_INTRODUCTION = """The keys of `/sdapi/v1/options` and of `override_settings`, kept in `config.json`. Names,
defaults and ranges are AUTOMATIC1111's. A key that nobody knows is kept in the file and otherwise ignored.

"""
FLAGS_INTRODUCTION = """Flags of `latentd serve`, under AUTOMATIC1111's names where it has them. Each can be an
environment variable, too; the command line wins over it, and it over AUTOMATIC1111's `COMMANDLINE_ARGS`.

"""
ENDPOINTS_INTRODUCTION = """Bodies and replies are described by the server itself: `/docs` (Swagger UI) to read and to
try, `/redoc` to read, `/openapi.json` for programs and [generators of clients](../how-to/generate-a-client.md). Both
pages draw without the internet: their scripts come with the package `fastapi-offline`. How each endpoint compares with
AUTOMATIC1111's is told under [compatibility](../compatibility.md).

`GET /` is a page for people, whatever `Accept` says: version, models, documentation, and the next command. A plugin
that has `/` among its routes puts its own page there.

"""
GENERATED: dict[str, Callable[[], str]] = {
    "hooks.md": hooks_page,
    "values.md": values_page,
    "api.md": face_page,
    "testing.md": testing_page,
    "options.md": options_page,
    "flags.md": flags_page,
    "endpoints.md": endpoints_page,
}

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "core"))
    sys.exit(main(sys.argv[1:]))
