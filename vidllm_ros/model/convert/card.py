"""Where the parts of a checkpoint come from, under which licences, and what is not trained: the folder's README.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from huggingface_hub import hf_hub_download

CARD_FILE = "README.md"

VGGT_LICENCE = (
    "not stated beside the file: VGGT-1B is CC BY-NC 4.0, non-commercial; VGGT-1B-Commercial has the VGGT License, "
    "whose acceptable use policy excludes transportation technologies and heavy machinery among others"
)
DINOV2_LICENCE = "Apache-2.0"
UNSTATED_LICENCE = "not stated; ask whoever published it before you use it"

UNTRAINED = {
    "metric depth": "random: **depth in metres and the scale mean nothing**; poses and relative depth do without it",
    "adapter": "at its start, where it changes nothing",
    "backbone, camera head, depth head": "random: **there is no geometry**",
    "encoder": "random: **nothing works**",
    "scene projector, 3D patches, grounding": "random: **answers about a scene and boxes mean nothing**",
}


@dataclass(frozen=True)
class Origin:
    """Where a part of the network comes from.

    Attributes:
        parts: which parts, in words.
        source: the file, folder or hub name.
        licence: of the weights.
        remark: what else to know; may be empty.
    """

    parts: str
    source: str
    licence: str
    remark: str = ""


def stated_licence(folder: Path, otherwise: str) -> str:
    """The licence that a model card or a licence file in ``folder`` states; ``otherwise`` when neither does."""
    values = _front_matter(folder / CARD_FILE)
    licence = values.get("license_name") or values.get("license")
    if licence:
        link = values.get("license_link")
        return f"{licence} ({link})" if link else str(licence)
    for path in sorted(folder.glob("LICENSE*")):
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
        if lines:
            return f"{lines[0]} (see {path.name})"
    return otherwise


def hub_licence(source: str) -> str:
    """The licence of a folder or of a model on the hub."""
    if Path(source).is_dir():
        return stated_licence(Path(source), UNSTATED_LICENCE)
    try:
        return stated_licence(Path(hf_hub_download(source, CARD_FILE)).parent, UNSTATED_LICENCE)
    except (OSError, ValueError):  # no such file, no network
        return f"not found; see https://huggingface.co/{source}"


def inherited_origins(folder: Path) -> list[Origin]:
    """What the card of a converted folder says about its parts; licences travel with the weights."""
    listed = _front_matter(folder / CARD_FILE).get("sources")
    if isinstance(listed, list) and listed:
        try:
            return [Origin(**entry) for entry in listed]
        except TypeError:
            pass  # written by another program
    return [Origin("everything", folder.name, stated_licence(folder, UNSTATED_LICENCE))]


def inherited_untrained(folder: Path) -> list[str] | None:
    """The parts that a converted folder calls untrained; None when its card does not say."""
    listed = _front_matter(folder / CARD_FILE).get("untrained")
    return [str(part) for part in listed] if isinstance(listed, list) else None


def write_card(folder: Path, name: str, origins: Sequence[Origin], untrained: Sequence[str]) -> None:
    """Write the card.

    Args:
        folder: of the checkpoint.
        name: of the network's size.
        origins: where its parts come from.
        untrained: keys of ``UNTRAINED`` (others are listed without a remark).
    """
    front = {"library_name": "vidllm_ros", "sources": [asdict(o) for o in origins], "untrained": list(untrained)}
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1000).strip(),
        "---",
        "",
        f"# {name}",
        "",
        "A checkpoint of `vidllm_ros`, written by `vidllm convert`.",
        "",
        "| part | from | licence of the weights |",
        "| --- | --- | --- |",
        *(f"| {o.parts}{f' ({o.remark})' if o.remark else ''} | `{o.source}` | {o.licence} |" for o in origins),
        "",
        "The strictest of these licences holds for the whole. This is no legal advice.",
    ]
    if untrained:
        lines += ["", "## Not trained", "", *(f"- **{part}**: {_remark(part)}" for part in untrained)]
    (folder / CARD_FILE).write_text("\n".join(lines) + "\n")


def _remark(part: str) -> str:
    return UNTRAINED.get(part, "random")


def _front_matter(path: Path) -> dict:
    """The YAML mapping between the first two ``---`` lines; empty where there is none."""
    if not path.is_file():
        return {}
    parts = path.read_text(errors="replace").split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        values = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return {}
    return values if isinstance(values, dict) else {}
