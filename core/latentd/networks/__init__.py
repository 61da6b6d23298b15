"""LoRA family and hypernetworks: found on disk, mapped to modules, laid over a model's weights."""
