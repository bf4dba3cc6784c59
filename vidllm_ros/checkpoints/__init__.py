"""The bundled demonstration model."""

from pathlib import Path

NANO = Path(__file__).parent / "nano"
