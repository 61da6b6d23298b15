"""The plugin host: finds plugins, registers what they offer, isolates their failures, and reports their states."""

from __future__ import annotations
