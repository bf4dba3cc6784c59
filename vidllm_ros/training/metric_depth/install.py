"""Put a trained convolutional depth model into a checkpoint of the whole network, all other parts as they are.

``python -m vidllm_ros.training.metric_depth.install --checkpoint DIR --depth DIR --out DIR``
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from vidllm_ros.model import VidLLM
from vidllm_ros.training.metric_depth.files import load_model

REPLACED = "reconstruction.metric_depth."


def install(network: VidLLM, depth: Path, align: bool = False) -> VidLLM:
    """The network with the model of folder ``depth`` as its Metric Depth Model.

    Args:
        network: stays as it is.
        depth: config.json and model.safetensors of the convolutional model.
        align: whether the depth of a frame stays the relative depth, scaled to metres; False makes it the metric depth.
    """
    model = load_model(depth)
    metric = replace(network.config.metric_depth, enabled=True, encoder="convolutional", convolutional=model.config)
    config = replace(network.config, metric_depth=metric, scale=replace(network.config.scale, align=align))
    made = VidLLM(config, network.language.tokenizer if config.language is not None else None)
    values = {name: value for name, value in network.state_dict().items() if not name.startswith(REPLACED)}
    made.load_state_dict(values | {REPLACED + name: value for name, value in model.state_dict().items()})
    return made.eval()


def main() -> None:
    """Read, install, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder of the whole network")
    parser.add_argument("--depth", type=Path, required=True, help="folder of the depth model")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint to write, in float16")
    parser.add_argument("--align", action="store_true", help="keep the relative depth as the depth of a frame")
    arguments = parser.parse_args()
    network = VidLLM.from_pretrained(arguments.checkpoint)
    install(network, arguments.depth, arguments.align).save_pretrained(arguments.out, dtype="float16")


if __name__ == "__main__":
    main()
