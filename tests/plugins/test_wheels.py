"""Plugins as users get them: wheels, installed with pip. One that is broken breaks itself alone."""

from __future__ import annotations

from typing import Any

import pytest

from latentd import __version__

GOOD = """
    from latentd.api import APIRouter, OptionSpec, Services, hookimpl

    @hookimpl
    def register_options():
        return [OptionSpec(key="good_strength", default=3, help="how good")]

    @hookimpl
    def register_routes(services: Services):
        router = APIRouter(prefix="/good/v1")

        @router.get("/strength")
        async def strength() -> float:
            return services.options["good_strength"]

        return [router]

    @hookimpl
    def shutdown(services: Services):
        print("good told to stop")
"""
EXITS_AT_IMPORT = """
    import sys
    sys.exit("no licence found")
"""
FAILS_AT_IMPORT = """
    import a_module_that_nobody_has
"""
MISSPELT = """
    from latentd.api import hookimpl

    @hookimpl
    def register_sampler():
        return []
"""
WRONG_SIGNATURE = """
    from latentd.api import hookimpl

    @hookimpl
    def before_step(generation, number):
        pass
"""
WRONG_VALUE = """
    from latentd.api import hookimpl

    @hookimpl
    def register_upscalers(services):
        return ["Lanczos"]
"""
CLASHES = """
    from latentd.api import APIRouter, OptionSpec, hookimpl

    @hookimpl
    def register_options():
        return [OptionSpec(key="fine", default=1, help="x"), OptionSpec(key="samples_format", default="png", help="x")]
"""
SHADOWS = """
    from latentd.api import APIRouter, OptionSpec, hookimpl

    @hookimpl
    def register_options():
        return [OptionSpec(key="shadow", default=1, help="x")]

    @hookimpl
    def register_routes(services):
        router = APIRouter()

        @router.post("/sdapi/v1/txt2img")
        async def mine() -> None:
            pass

        return [router]
"""
TOO_NEW = """
    raise AssertionError("must not be imported")
"""
STARTUP_RAISES = """
    from latentd.api import APIRouter, Services, hookimpl

    @hookimpl
    def register_routes(services: Services):
        router = APIRouter(prefix="/late/v1")

        @router.get("/hello")
        async def hello() -> str:
            return "hello"

        return [router]

    @hookimpl
    def startup(services: Services):
        raise RuntimeError("the licence server is down")
"""

STARTUP_EXITS = """
    import sys
    from latentd.api import hookimpl

    @hookimpl
    def startup(services):
        sys.exit("no licence")
"""


@pytest.fixture(scope="module")
def installed(overlay: Any) -> Any:
    """Every plugin of this module, installed side by side."""
    overlay.add("good", GOOD)
    overlay.add("exits", EXITS_AT_IMPORT)
    overlay.add("fails", FAILS_AT_IMPORT)
    overlay.add("misspelt", MISSPELT)
    overlay.add("signature", WRONG_SIGNATURE)
    overlay.add("value", WRONG_VALUE)
    overlay.add("clashes", CLASHES)
    overlay.add("shadows", SHADOWS)
    overlay.add("toonew", TOO_NEW, requires="latentd>=7")
    overlay.add("late", STARTUP_RAISES)
    overlay.add("leaves", STARTUP_EXITS)
    overlay.add("twin", GOOD.replace("good", "twin"), entry="good")
    return overlay


@pytest.fixture(scope="module")
def report(installed: Any) -> Any:
    return installed.report()


def test_the_good_one_is_loaded_beside_all_the_broken_ones(report: Any) -> None:
    row = report["good"]
    assert (row["state"], row["distribution"], row["version"]) == ("loaded", "latentd-good", "1.0")
    assert row["contributes"] == {"options": ["good_strength"], "routers": ["/good/v1"]}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("exits", "SystemExit: no licence found"),
        ("fails", "a_module_that_nobody_has"),
        ("misspelt", "there is no hook 'register_sampler': did you mean 'register_samplers'"),
        ("signature", "number"),
        ("value", "register_upscalers returned 'Lanczos', which is no UpscalerSpec"),
        ("clashes", "option 'samples_format' belongs to latentd"),
        ("shadows", "route POST /sdapi/v1/txt2img belongs to latentd.builtin"),
        ("toonew", f"latentd-toonew 1.0 needs latentd>=7, and this is latentd {__version__}"),
        ("good (latentd-twin)", "latentd-twin and latentd-good both bring a plugin 'good'"),
    ],
)
def test_a_broken_one_is_failed_and_says_why(report: Any, name: str, words: str) -> None:
    row = report[name]
    assert row["state"] == "failed"
    assert words in row["error"]
    assert "Traceback" in row["traceback"] or "PluginRefused" in row["traceback"]
    assert row["contributes"] == {}


def test_nothing_of_a_failed_plugin_remains(installed: Any) -> None:
    code = """
from latentd.server.services import create_services
from latentd.settings import parse_settings
services = create_services(parse_settings([]))
print([key for key in ("good_strength", "fine", "shadow") if key in services.options])
"""
    assert installed.python("-c", code).stdout.strip() == "['good_strength']"


def test_a_plugin_whose_startup_raises_answers_503_and_the_others_serve(installed: Any) -> None:
    code = """
from fastapi.testclient import TestClient
from latentd.server.app import create_app
from latentd.settings import parse_settings
with TestClient(create_app(parse_settings([])), "http://localhost", False) as client:
    late = client.get("/late/v1/hello")
    print(late.status_code, "late" in late.json()["detail"], "licence server is down" in late.json()["detail"])
    print(client.get("/good/v1/strength").json())
    states = {row["name"]: row["state"] for row in client.get("/latentd/v1/plugins").json()["plugins"]}
    print(states["late"], states["good"], states["misspelt"])
"""
    done = installed.python("-c", code)
    answers = ["503 True True", "3.0", "withdrawn loaded failed", "good told to stop"]
    assert done.stdout.splitlines() == answers, done.stderr


def test_plugins_can_be_disabled(installed: Any) -> None:
    report = installed.report("--disable-plugin", "good", "--disable-plugin", "latentd-late")
    assert (report["good"]["state"], report["late"]["state"]) == ("disabled", "disabled")


def test_only_those_named_are_loaded(installed: Any) -> None:
    states = {name: row["state"] for name, row in installed.report(LATENTD_PLUGINS="late").items()}
    assert states.pop("late") == "loaded"
    assert set(states.values()) == {"disabled"}


def test_core_only_imports_none(installed: Any) -> None:
    assert {row["state"] for row in installed.report("--core-only").values()} == {"disabled"}


def test_the_command_reports_a_failure_in_its_exit_status(installed: Any) -> None:
    broken = installed.python("-m", "latentd", "plugins")
    assert broken.returncode == 1
    assert "there is no hook 'register_sampler'" in broken.stdout
    assert installed.python("-m", "latentd", "plugins", "--plugins", "late").returncode == 0


def test_required_plugins_that_are_missing_end_the_server_with_status_2_and_are_all_listed(installed: Any) -> None:
    flags = ["--require-plugin", "good,misspelt", "--require-plugin", "absent", "--port", "0"]
    done = installed.python("-m", "latentd", "serve", *flags)
    assert done.returncode == 2
    assert "misspelt: failed" in done.stderr
    assert "absent: not installed" in done.stderr
    assert "plugin good:" not in done.stderr


@pytest.mark.parametrize("name", ["late", "latentd-late", "leaves"])
def test_a_required_plugin_whose_startup_fails_ends_the_server_with_status_2(installed: Any, name: str) -> None:
    done = installed.python("-m", "latentd", "serve", "--require-plugin", name, "--plugins", "late,leaves,good")
    assert done.returncode == 2, done.stderr
    why = "SystemExit: no licence" if name == "leaves" else "RuntimeError: the licence server is down"
    assert f"required plugin {name}: withdrawn: {why}" in done.stderr
    assert "listens on" not in done.stderr
    assert "good told to stop" in done.stdout, "those that had started are ended in order"


def test_importing_plugins_imports_no_torch(installed: Any) -> None:
    code = """
import sys
from latentd.server.services import create_services
from latentd.settings import parse_settings
create_services(parse_settings(["--plugins", "good"]))
print("torch" in sys.modules, "latentd_good" in sys.modules)
"""
    assert installed.python("-c", code).stdout.strip() == "False True"


def test_a_plugins_command_runs_and_help_imports_none(installed: Any) -> None:
    source = """
        def greet(arguments):
            print("hello", *arguments)
            return 3
    """
    installed.add("greeter", source, group="latentd.commands", entry="greet")
    entry = next(installed.site.glob("latentd_greeter*.dist-info")) / "entry_points.txt"
    entry.write_text("[latentd.commands]\ngreet = latentd_greeter:greet\n")
    done = installed.python("-m", "latentd", "greet", "you")
    assert (done.returncode, done.stdout.strip()) == (3, "hello you")
    code = "import sys; from latentd.cli import main; main(['--help']); print('latentd_greeter' in sys.modules)"
    lines = installed.python("-c", code).stdout.splitlines()
    assert any("greet" in line and "latentd-greeter" in line for line in lines)
    assert lines[-1] == "False"
