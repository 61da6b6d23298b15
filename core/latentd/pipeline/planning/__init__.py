"""From a request to a plan: what will happen, with every refusal raised here. No torch."""
