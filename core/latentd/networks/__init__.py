"""LoRA family and hypernetworks: found on disk, matched with a model's modules, applied to its weights."""
