"""The output of a generation: finishing pictures, infotexts, saving."""
