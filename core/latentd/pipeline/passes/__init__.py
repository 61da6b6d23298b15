"""One sampling pass: conditioning, denoiser, guidance, refiner, previews."""
