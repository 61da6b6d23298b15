"""Run the benchmarks: all of them, or those that are named, or in under three minutes those that tell most.

python -m benchmarks [--list] [--quick] [--json FOLDER] [NAME ...] [-- FLAGS OF THE ONE NAMED]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
#: Benchmarks of the quick run, with their flags: whole requests beside bare loops, clients at once, lossy ways.
QUICK = {
    "tiny_request": ["--size", "128", "--pairs", "9"],
    "against_diffusers": ["--model", "tiny", "--size", "256", "--pairs", "3"],
    "clients": ["--rounds", "1", "--steps", "10"],
    "lossy": ["--size", "128", "--steps", "10", "--pairs", "1", "--only", "bfloat16", "step cache 0.1"],
}


def names() -> list[str]:
    """Every benchmark: the modules of this folder."""
    return sorted(file.stem for file in HERE.glob("*.py") if not file.stem.startswith("_"))


def main(arguments: list[str]) -> int:
    """Run what ``arguments`` name, one process each; gives the number of those that failed."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser("benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the names and do nothing")
    parser.add_argument("--quick", action="store_true", help="those that tell most, small")
    parser.add_argument("--json", type=Path, metavar="FOLDER", help="keep the figures there, in a file each")
    given = parser.parse_args(arguments[:cut])
    if given.list:
        print("\n".join(names()))
        return 0
    unknown = sorted(set(given.names) - set(names()))
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    if given.json:
        given.json.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in given.names or (QUICK if given.quick else names()):
        print(f"== {name}", flush=True)
        flags = arguments[cut + 1 :] or (QUICK.get(name, []) if given.quick else [])
        file = HERE / f"{name}.py"
        if given.json and '"--json"' in file.read_text(encoding="utf-8"):
            flags = [*flags, "--json", str(given.json / f"{name}.json")]
        failed += subprocess.call([sys.executable, str(file), *flags]) != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
