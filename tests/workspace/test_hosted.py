"""The files by which a host runs, releases and receives: they are well-formed, and what they name exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
SCHEMAS = {
    **dict.fromkeys(WORKFLOWS, "vendor.github-workflows"),
    **dict.fromkeys(FORMS, "vendor.github-issue-forms"),
    ROOT / ".github/ISSUE_TEMPLATE/config.yml": "vendor.github-issue-config",
    ROOT / ".github/dependabot.yml": "vendor.dependabot",
}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(path: Path) -> list[dict[str, Any]]:
    """The steps of every job of a workflow."""
    return [step for job in read(path)["jobs"].values() for step in job.get("steps", ())]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_a_file_is_what_its_host_expects(path: Path) -> None:
    pytest.importorskip("check_jsonschema", reason="the schemas come with a package of the dependency group dev")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[path], str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_hosted_ci_does_what_the_local_one_does() -> None:
    ours = re.findall(r"^(make .+?)\s*(?:#.*)?$", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    theirs = [
        step["run"] for step in read(ROOT / ".github/workflows/ci.yml")["jobs"]["linux"]["steps"] if "run" in step
    ]
    assert theirs == ours


def test_what_commands_name_exists() -> None:
    texts = [str(step["run"]) for path in WORKFLOWS for step in steps(path) if "run" in step]
    hooks = [hook for repository in read(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repository["hooks"]]
    texts += [hook["entry"] for hook in hooks]
    assert len(texts) >= 12
    for text in texts:
        assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets(), text
        for name in re.findall(r"\b(?:tools|constraints)/[\w.]+", text):
            assert (ROOT / name).is_file(), text
        for name in re.findall(r"^\.venv/bin/(\S+)", text):
            assert Path(sys.executable).with_name(name).is_file(), text


def test_hooks_use_the_pinned_tools_of_the_environment() -> None:
    """Another version than the CI's would want another form."""
    pins = (ROOT / "constraints/dev.txt").read_text(encoding="utf-8")
    repositories = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    for name in ("ruff", "mypy", "import-linter", "build", "twine", "check-jsonschema"):
        assert re.search(rf"^{name}==", pins, re.MULTILINE), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_of_others_are_pinned_to_a_commit_and_say_which_version_it_is(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        if "uses: " in line and "uses: ./" not in line:
            assert re.search(r"uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_only_the_job_that_publishes_may_speak_for_the_project_and_it_runs_last() -> None:
    workflow = read(ROOT / ".github/workflows/release.yml")
    assert workflow["permissions"] == {"contents": "read"}
    jobs = workflow["jobs"]
    allowed = [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})]
    assert allowed == ["publish"]
    assert set(jobs["publish"]["needs"]) == set(jobs) - {"publish"}
    assert not any("run" in step for step in jobs["publish"]["steps"]), "nothing of this tree runs beside the token"


def test_the_guide_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:core|tests|tools|docs|plugins|constraints|\.ci)/[\w./*-]+)`", text)
    assert len(named) > 25
    for name in named:
        assert "NAME" in name or list(ROOT.glob(name)), name
    for module in re.findall(r"python -m (tests[\w.]+)", text):
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), module
