"""The plugin host: it finds plugins, takes in what they offer, keeps the rest running when one breaks, and reports."""

from __future__ import annotations
