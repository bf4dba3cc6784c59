"""What evaluation raises when its input cannot be used."""

from __future__ import annotations


class EvaluationError(ValueError):
    """Input that cannot be scored. The message names the value, the limit and what to do."""


class BagError(EvaluationError):
    """A recording that cannot be read, or that lacks what was asked for."""
