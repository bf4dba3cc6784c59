"""Rooms with modelled furniture, photographic textures and soft light, for training depth on what looks like a home."""
