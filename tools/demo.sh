#!/usr/bin/env bash
# The demonstration: films a procedural room into a bag, plays the bag through the real node, asks it questions.
# usage: tools/demo.sh FOLDER   (inside the environment of tools/env.sh)
# Fails when points, poses, boxes or answers are missing.
set -euo pipefail
out="$1"

# Other robots on the network are none of its business. Humble knows only the second name.
if [ "${ROS_DISTRO:-}" = humble ]; then
  export ROS_LOCALHOST_ONLY=1
else
  export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
fi

# metadata.yaml is the last file a bag gets.
if [ ! -f "$out/room/metadata.yaml" ]; then
  rm -rf "$out/room"
  mkdir -p "$out"
  vidllm rooms --split test --seed 3 --seconds 24 --bag "$out/room"
fi
vidllm replay "$out/room" \
  --ask "Describe the room." \
  --ask "How many chairs are in the room?" \
  --ask "Is there a table?" \
  --ask "What colour is the sofa?" \
  --out "$out" \
  --require points,poses,boxes,answers
