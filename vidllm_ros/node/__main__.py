"""``python -m vidllm_ros.node``."""

from vidllm_ros.node.main import main

main()
