"""The bundled demonstration model: weights, configuration, tokenizer and card, as ``model`` loads them."""

from pathlib import Path

NANO = Path(__file__).parent / "nano"
