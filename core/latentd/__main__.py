"""``python -m latentd``."""

from __future__ import annotations

import sys

from latentd.cli import main

sys.exit(main())
