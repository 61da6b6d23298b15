"""Run the benchmarks: all of them, or those that are named.

python -m benchmarks [--list] [NAME ...] [-- FLAGS OF THE ONE NAMED]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def names() -> list[str]:
    """Every benchmark: the modules of this folder."""
    return sorted(file.stem for file in HERE.glob("*.py") if not file.stem.startswith("_"))


def main(arguments: list[str]) -> int:
    """Run what ``arguments`` name, one process each; gives the number of those that failed."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    wanted, flags = arguments[:cut], arguments[cut + 1 :]
    if "--list" in wanted:
        print("\n".join(names()))
        return 0
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    failed = 0
    for name in wanted or names():
        print(f"== {name}", flush=True)
        failed += subprocess.call([sys.executable, str(HERE / f"{name}.py"), *flags]) != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
