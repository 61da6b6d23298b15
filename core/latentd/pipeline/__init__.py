"""From a request to pictures: planning (pure), sampling, decoding, finishing and saving."""
