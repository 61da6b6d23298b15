"""The table of mutations fits the source, and a mutation that nobody notices is told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"
sys.path.append(str(TOOLS))

from mutation_table import MUTATIONS, Mutation  # noqa: E402

CHECK = """
import sys
from pathlib import Path

import mutations
from mutation_table import Mutation

made = [Mutation("a name", "sums.py", "a + b", mutated, "test_sums.py::test_sum") for mutated in sys.argv[2:]]
sys.exit(mutations.check(Path(sys.argv[1]), made))
"""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_table_fits_the_source(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.original) == 1
    assert mutation.mutated != mutation.original
    file, _, name = mutation.test.partition("::")
    function = re.escape(name.partition("[")[0])
    assert re.search(rf"^def {function}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_names_are_each_ones_own() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert len(set(names)) == len(names)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the tool forks")
@pytest.mark.parametrize(
    ("mutated", "status", "said"),
    [
        (["a - b", "a * b"], 0, "2 of 2 mutations are noticed"),
        (["a - b", "b + a", "a +"], 1, "1 of 3 mutations are noticed"),
    ],
    ids=["noticed", "survived"],
)
def test_what_survives_is_told(tmp_path: Path, mutated: list[str], status: int, said: str) -> None:
    """Source that does not compile is no mutation; the source comes back after each."""
    source = "def add(a, b):\n    return a + b\n"
    (tmp_path / "sums.py").write_text(source)
    (tmp_path / "test_sums.py").write_text("import sums\n\ndef test_sum():\n    assert sums.add(2, 3) == 5\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    environment = {**os.environ, "PYTHONPATH": str(TOOLS)}
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(tmp_path), *mutated], capture_output=True, text=True, env=environment
    )
    assert said in done.stdout, done.stderr
    assert done.returncode == status
    assert (tmp_path / "sums.py").read_text() == source
