"""The documentation says what the code does: hooks, options, flags, endpoints, errors, commands."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from latentd import errors
from latentd.cli.main import COMMANDS
from latentd.settings import parse_settings
from latentd.settings.parse import flags_parser

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
PAGES += [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """tools/reference.py."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["hooks.md", "values.md", "options.md", "flags.md", "endpoints.md"])
def test_generated_pages_are_as_the_code_is(reference: ModuleType, name: str) -> None:
    assert page(f"reference/{name}") == reference.GENERATED[name](), "run python tools/reference.py"


def test_every_hook_has_a_section_with_its_signature(reference: ModuleType) -> None:
    headings = re.findall(r"^### `(.+)`$", page("reference/hooks.md"), re.MULTILINE)
    found = reference.hooks()
    assert len(found) >= 30
    assert headings == [reference.signature(spec) for spec in found.values()]
    assert [name for name, spec in found.items() if not inspect.getdoc(spec)] == []


def test_every_option_is_in_the_table() -> None:
    from latentd.options.declared import CORE_OPTIONS

    listed = re.findall(r"^\| `([^`]+)` \|", page("reference/options.md"), re.MULTILINE)
    assert {option.key for option in CORE_OPTIONS} <= set(listed)


def test_every_flag_is_in_the_table() -> None:
    text = page("reference/flags.md")
    spellings = [name for action in flags_parser("x")._actions for name in action.option_strings]
    assert [name for name in spellings if name not in ("-h", "--help") and f"`{name}`" not in text] == []


def test_every_core_endpoint_stands_in_the_compatibility_table(reference: ModuleType) -> None:
    named = re.findall(r"`(?:GET |POST )?(/[^`]*)`", page("compatibility.md"))
    covered = [re.compile(re.escape(path).replace(r"\*", ".*") + "$") for path in named]
    prefixes = ("/sdapi/", "/controlnet/", "/internal/", "/latentd/")
    paths = [row[1].strip("`") for rows in reference.endpoints().values() for row in rows]
    wanted = [path for path in paths if path.startswith(prefixes)]
    assert len(wanted) > 40
    assert [path for path in wanted if not any(pattern.match(path) for pattern in covered)] == []


def test_every_name_of_the_public_face_is_told_of_and_typed() -> None:
    """Late imports are known to editors and type checkers only where they stand under TYPE_CHECKING, too."""
    from latentd import api

    text = page("reference/api.md")
    assert [name for name in api.__all__ if not re.search(rf"^## `{name}\b", text, flags=re.MULTILINE)] == []
    tree = ast.parse(Path(api.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == api._LATE
    assert set(typed) <= set(api.__all__)


def test_every_error_class_is_listed_with_its_status() -> None:
    text = page("reference/errors.md")
    classes = [
        value
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, errors.LatentdError)
        and name not in ("LatentdError", "Interrupted")
    ]
    assert len(classes) > 8
    assert [c.__name__ for c in classes if f"| {c.status} | `{c.__name__}` |" not in text] == []


def test_commands_in_the_pages_exist() -> None:
    """Every ``latentd ...`` in a console block has a known command and known flags; every ``make`` target exists."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = 0
    for path in PAGES:
        for line in _console_lines(path.read_text(encoding="utf-8")):
            words = re.sub(r"\s+#.*", "", line).rstrip("& ").split()
            if words[:1] == ["make"]:
                assert words[1] in targets, f"{path.name}: {line}"
            if words[:1] == ["latentd"] and len(words) > 1:
                commands += 1
                assert words[1] in COMMANDS or words[1].startswith("-"), f"{path.name}: {line}"
                if words[1] == "serve":
                    parse_settings(words[2:], environment={})
    assert commands >= 10


def _console_lines(text: str) -> list[str]:
    fenced = re.findall(r"```(?:console|sh|bash)\n(.*?)```", text, re.DOTALL)
    indented = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    joined = "\n".join([*fenced, *indented]).replace("\\\n", " ")
    return [line.strip().removeprefix("$ ") for line in joined.splitlines() if line.strip()]


def test_flags_named_in_prose_exist() -> None:
    known = {name for action in flags_parser("x")._actions for name in action.option_strings}
    # Flags of commands other than serve, of pip, curl and our tools, stand in blocks; in prose only the server's do.
    for path in PAGES:
        prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for name in re.findall(r"`(--[a-z][a-z-]+)(?: [^`]*)?`", prose):
            assert name in known, f"{path.relative_to(ROOT)} names {name}"


def test_links_between_pages_lead_somewhere() -> None:
    for path in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"


def test_every_page_can_be_reached_from_the_index() -> None:
    index = page("index.md")
    for path in DOCS.rglob("*.md"):
        name = path.relative_to(DOCS).with_suffix("").as_posix()
        if "_build" in path.parts or name == "index":
            continue
        assert re.search(rf"^{re.escape(name)}$", index, re.MULTILINE) or name.startswith("how-to/"), (
            f"{name} is in no toctree"
        )


def test_sphinx_builds_the_pages_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("myst_parser", reason="the documentation's tools are in the dependency group dev")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(DOCS),
        str(tmp_path / "html"),
    ]
    done = subprocess.run([*command, "-d", str(tmp_path / "trees")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html/index.html").is_file()


def test_the_compatibility_page_is_as_the_tests_are() -> None:
    command = [sys.executable, ROOT / "tools/compatibility.py", "--check"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_prompts_in_the_pages_are_ones_the_tiny_model_knows() -> None:
    """Who copies a command draws with the tiny model to begin with: it should show what was asked for."""
    motifs = json.loads((ROOT / "plugins/tinymodel/src/latentd_tinymodel/motifs.json").read_text(encoding="utf-8"))
    things = [thing for motif in motifs for thing in (motif["name"], *motif["synonyms"])]
    known = re.compile(rf"\b({'|'.join(map(re.escape, things))})\b")
    pages = [ROOT / "README.md", ROOT / "tools/first_picture.py", *(ROOT / "plugins").glob("*/README.md")]
    pages += [page for folder in ("tutorial", "how-to") for page in (ROOT / "docs" / folder).glob("*.md")]
    prompts = [
        (page.name, prompt)
        for page in pages
        for prompt in re.findall(r'(?:"prompt": |latentd generate )"([^"]+)"', page.read_text(encoding="utf-8"))
    ]
    assert len(prompts) > 8
    assert [entry for entry in prompts if not known.search(entry[1])] == []
