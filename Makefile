# Every target does the set-up it needs, once; a second run starts at once. `make help` lists them.
#
#   ROS_DISTRO=jazzy   which ROS 2: /opt/ros/jazzy where it exists, else its wheels (tools/requirements-ros-jazzy.txt)
#   PYTHON=python3.12  the interpreter .venv is made from
#   TORCH_INDEX=URL    where PyTorch is taken from (tools/setup.sh)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo check test lint types build bench setup clean distclean

IN_ENV := source tools/env.sh;
PYTEST_ARGS ?=
# Half of the tests wait for nodes: two processes keep two cores busy. Tests of one file share their nodes.
IN_PARALLEL := -n 2 --dist loadfile

help: ## list the targets
	@awk -F ': .*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## make a room bag, replay it through the real node, ask it questions, write demo/report.html
	@$(IN_ENV) tools/demo.sh demo

check: lint types ## for everyday use: lint, type checks and the quick tests that need neither ROS nor training
	@$(IN_ENV) PYTHONPATH=$(CURDIR) pytest $(IN_PARALLEL) -m "not slow" test/model test/perception test/evaluation test/test_architecture.py $(PYTEST_ARGS)

test: lint types build ## lint, type checks and every test, over real ROS 2
	@# Nodes of one run share the machine and its middleware: what failed beside others gets one chance alone.
	@$(IN_ENV) pytest $(IN_PARALLEL) $(PYTEST_ARGS) || { echo "Once more, alone, those that failed:"; pytest --last-failed $(PYTEST_ARGS); }

lint: setup ## ruff: rules and formatting
	@$(IN_ENV) ruff check . && ruff format --check .

types: setup ## mypy on vidllm_ros/model and vidllm_ros/perception
	@$(IN_ENV) mypy

build: setup ## .venv and the colcon workspace in build/ and install/
	@tools/build.sh

bench: build ## speed and memory as tables
	@$(IN_ENV) python benchmarks/window.py && python benchmarks/rooms.py

setup: ## .venv with the pinned packages, and ROS 2 where there is none
	@tools/setup.sh

clean: ## remove what was built and written, keep .venv
	rm -rf build install log demo .pytest_cache .mypy_cache .ruff_cache .hypothesis

distclean: clean ## remove .venv too
	rm -rf .venv
