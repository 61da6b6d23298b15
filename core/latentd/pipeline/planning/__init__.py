"""From a request to a plan. All refusals are raised here; no torch is imported."""
