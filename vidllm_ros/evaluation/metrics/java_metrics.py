"""The PTB tokenizer and METEOR, which exist only as Java programs: the jars of ``pycocoevalcap``, run as processes.

Both are optional: ``pip install 'vidllm_ros[captions]'`` and a Java runtime (8 or newer). Nothing of their licences
(GPL and LGPL) reaches this package, which only talks to them through pipes.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from vidllm_ros.evaluation.errors import EvaluationError

_TOKENIZER = "tokenizer/stanford-corenlp-3.4.1.jar"
_METEOR = "meteor/meteor-1.5.jar"
# What the caption evaluators drop. Brackets come out of the tokenizer in lower case and are therefore kept.
_PUNCTUATION = frozenset(["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", *".?!,:;-", "--", "..."])
# Whatever either program takes for the end of a line; one of them inside a caption would shift all that follow.
_LINE_ENDS = re.compile("[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")
# Without these a C locale would turn every letter outside ASCII into a question mark.
_UTF8 = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-Dsun.stdout.encoding=UTF-8")


class MissingToolError(EvaluationError):
    """Java or ``pycocoevalcap`` is not here."""


def missing() -> str:
    """One sentence on what is absent and how to get it; empty when both programs can run."""
    try:
        _command(_TOKENIZER)
        _command(_METEOR)
    except MissingToolError as error:
        return str(error)
    return ""


def ptb_tokens(captions: Sequence[str]) -> list[str]:
    """Captions in lower case, as Penn Treebank tokens without punctuation, joined by single blanks.

    Args:
        captions: any text; what ends a line counts as a blank.

    Returns:
        As many strings; empty where nothing is left.

    Raises:
        MissingToolError: Java or ``pycocoevalcap`` is not here.
        EvaluationError: the tokenizer failed.
    """
    if not captions:
        return []
    java, jar = _command(_TOKENIZER)
    arguments = ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    text = "".join(f"{_LINE_ENDS.sub(' ', caption)}\n" for caption in captions)
    result = subprocess.run(
        [java, *_UTF8, "-cp", str(jar), *arguments],
        input=text.encode("utf-8", "replace"),
        capture_output=True,
        check=False,
    )
    lines = result.stdout.decode("utf-8", "replace").split("\n")[: len(captions)]
    if result.returncode or len(lines) != len(captions):
        said = result.stderr.decode("utf-8", "replace").strip()[-300:]
        raise EvaluationError(f"the PTB tokenizer gave {len(lines)} lines for {len(captions)} captions: {said}")
    return [" ".join(word for word in line.rstrip().split(" ") if word not in _PUNCTUATION) for line in lines]


def meteor(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, list[float]]:
    """METEOR 1.5, English with ``-norm`` (Denkowski and Lavie, WMT 2014).

    Args:
        predictions: one caption for each of N items.
        references: at least one caption for each of N items.

    Returns:
        The value of the corpus, from summed statistics and so not the mean, and N values; all 0 to 1.

    Raises:
        MissingToolError: Java or ``pycocoevalcap`` is not here.
        EvaluationError: METEOR ended before it had answered.
    """
    _command(_METEOR)
    with _LOCK:
        ask = _running_meteor()
        try:
            statistics = [
                ask(" ||| ".join(["SCORE", *map(_one_line, wanted), _one_line(prediction).replace("  ", " ")]))
                for prediction, wanted in zip(predictions, references, strict=True)
            ]
            first = ask(" ||| ".join(["EVAL", *statistics]))
            each = [float(first), *(float(ask()) for _ in statistics[1:])]
            return float(ask()), each
        except BaseException:
            ask.close()  # what it would say next belongs to a question nobody waits for
            raise


class _Meteor:
    """A running METEOR: called with a line it gives the next line of the reply."""

    def __init__(self) -> None:
        java, jar = _command(_METEOR)
        self._process = subprocess.Popen(
            [java, "-Xmx2G", *_UTF8, "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"],
            cwd=jar.parent,  # where its paraphrase table lies
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __call__(self, line: str = "") -> str:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            if line:
                process.stdin.write(f"{line}\n".encode("utf-8", "replace"))
                process.stdin.flush()
            reply = process.stdout.readline()
        except BrokenPipeError:
            reply = b""
        if not reply:
            raise EvaluationError("METEOR ended before it had answered: does Java get 2 GB of memory?")
        return reply.decode("utf-8", "replace").strip()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


_LOCK = threading.Lock()
_METEORS: list[_Meteor] = []  # at most one: it takes seconds to start, and stays until this program ends


def _running_meteor() -> _Meteor:
    if _METEORS and not _METEORS[0].running:
        _METEORS.clear()
    if not _METEORS:
        _METEORS.append(_Meteor())
        atexit.register(_METEORS[0].close)
    return _METEORS[0]


def _one_line(caption: str) -> str:
    return _LINE_ENDS.sub(" ", caption).replace("|||", "")


def _command(jar: str) -> tuple[str, Path]:
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    java = java or shutil.which("java")
    if java is None:
        raise MissingToolError(
            "METEOR and the PTB tokenizer need Java, and there is no 'java' on the PATH or in JAVA_HOME: install a "
            "Java runtime, for example openjdk-17-jre-headless."
        )
    found = importlib.util.find_spec("pycocoevalcap")
    folders = [Path(place) for place in (found.submodule_search_locations or [])] if found else []
    file = next((folder / jar for folder in folders if (folder / jar).is_file()), None)
    if file is None:
        raise MissingToolError(
            "METEOR and the PTB tokenizer are not installed: pip install 'vidllm_ros[captions]' (it brings "
            "pycocoevalcap 1.2 with the Java programs)."
        )
    return java, file
