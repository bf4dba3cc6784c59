"""What the doctor finds, and how it is printed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

_WIDTH = 118
_MARKS = {"ok": "ok  ", "note": "note", "problem": "FAIL"}


@dataclass(frozen=True)
class Finding:
    """One sentence.

    Attributes:
        level: ok; note (the node works, but something may not be as meant); problem (it would not work).
        text: what was found, and for a problem what to do.
    """

    level: str
    text: str

    @property
    def is_problem(self) -> bool:
        """Whether it would keep the node from working."""
        return self.level == "problem"


@dataclass(frozen=True)
class Section:
    """Findings under a title."""

    title: str
    findings: Sequence[Finding]

    def text(self) -> str:
        """As it is printed."""
        lines = [self.title]
        for finding in self.findings:
            first = f"  {_MARKS[finding.level]}  "
            lines += textwrap.wrap(
                finding.text,
                _WIDTH,
                initial_indent=first,
                subsequent_indent=" " * len(first),
                break_long_words=False,  # names of topics and files stay whole, so that they can be copied
                break_on_hyphens=False,
            )
        return "\n".join([*lines, ""])


def ok(text: str) -> Finding:
    """As it should be."""
    return Finding("ok", text)


def note(text: str) -> Finding:
    """Worth knowing."""
    return Finding("note", text)


def problem(text: str) -> Finding:
    """Keeps the node from working."""
    return Finding("problem", text)
