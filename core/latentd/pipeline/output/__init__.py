"""What becomes of sampled pictures: finishing, infotexts, saving."""
