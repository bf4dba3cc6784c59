"""``vidllm convert``: published weights into a checkpoint folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidllm_ros.model.convert.conversion import Conversion

CONFIGS = ("large", "small", "nano")


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "convert",
        help="Turn VGGT, DINOv2 and language model weights into a checkpoint folder.",
        description="Turns published weights into a checkpoint folder. Widths and depths are those of the weights. "
        "Licences are printed and kept in the folder's README.md.",
    )
    parser.add_argument(
        "--vggt", type=Path, metavar="FILE", help="VGGT-1B's model.safetensors or model.pt, or a checkpoint folder"
    )
    parser.add_argument(
        "--dinov2", type=Path, metavar="FILE_OR_FOLDER", help="DINOv2 with registers, where there is no VGGT"
    )
    parser.add_argument("--llm", metavar="ID_OR_FOLDER", help="a causal language model, hub name or folder")
    parser.add_argument("--config", choices=CONFIGS, default="large", help="what weights do not tell (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new or empty")
    parser.add_argument(
        "--encoder-heads", type=_heads, metavar="N", help="attention heads (default: one per 64 channels)"
    )
    parser.add_argument("--camera-heads", type=_heads, metavar="N", help="attention heads (default: as the backbone)")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "float16", "bfloat16"),
        default="auto",
        help="stored precision; auto: float32, the language model as published (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the parts that start at random (%(default)s)")
    parser.set_defaults(run=run)


def _heads(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; 0."""
    # Only now: torch takes seconds to import, and wrong arguments should be told at once.
    from vidllm_ros.model.convert.card import write_card
    from vidllm_ros.model.convert.conversion import Request, convert
    from vidllm_ros.model.convert.shapes import Heads
    from vidllm_ros.model.convert.sources import ConversionError
    from vidllm_ros.model.sizes import SIZES

    out: Path = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConversionError(f"'{out}' exists and is not an empty folder; give another --out")
    conversion = convert(
        Request(
            base=SIZES[arguments.config](),
            vggt=arguments.vggt,
            dinov2=arguments.dinov2,
            llm=arguments.llm,
            heads=Heads(arguments.encoder_heads, arguments.camera_heads),
            seed=arguments.seed,
        )
    )
    conversion.model.save_pretrained(out, arguments.dtype)
    write_card(out, conversion.model.config.name, conversion.origins, conversion.untrained)
    print(_report(conversion, out))
    return 0


def _report(conversion: Conversion, out: Path) -> str:
    counts: dict[str, int] = {}
    for name in conversion.dropped:
        part = name.partition(".")[0]
        counts[part] = counts.get(part, 0) + 1
    left = ", ".join(f"{count} of {part}" for part, count in counts.items())
    parameters = sum(p.numel() for p in conversion.model.parameters())
    lines = [f"{out}: {parameters / 1e6:.1f} million parameters"]
    if conversion.used:
        lines.append(f"{conversion.used} tensors taken over, {len(conversion.dropped)} left out{left and f' ({left})'}")
    lines.append("licences:")
    for origin in conversion.origins:
        remark = f" ({origin.remark})" if origin.remark else ""
        lines.append(f"  {origin.parts}{remark}, from {origin.source}: {origin.licence}")
    if conversion.untrained:
        lines.append(f"not trained (see {out / 'README.md'}): " + "; ".join(conversion.untrained))
    return "\n".join(lines)
