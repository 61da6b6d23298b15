"""The networks' own modules: UNet, attention, text encoder, tiled VAE, stored weights."""
