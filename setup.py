"""`pip install .` of the part that needs no ROS: network, perception, evaluation, training and the `vidllm` command.

colcon never runs this file: package.xml says ament_cmake, so CMakeLists.txt installs the same modules together with the
ROS interfaces (and the ament marker; resource/ is only for tools that expect it). There is no node entry point here,
because a pip installation has no vidllm_ros.msg; use one of the two installations in an environment, not both.
"""

from setuptools import find_packages, setup

EVAL = ["pillow>=10", "rosbags>=0.10.5,<0.12"]
NYU = ["h5py>=3.10,<4"]
TRAIN = ["accelerate>=1.6,<2", "peft>=0.17,<1", "plotly>=5.20", "tensorboard>=2.17"]
VIZ = ["Jinja2>=3.1", "plotly>=5.20"]

setup(
    name="vidllm_ros",
    version="0.1.0",
    description="Language-aware metric 3D perception for robots from one colour camera",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["vidllm_ros", "vidllm_ros.*"]),
    package_data={"vidllm_ros": ["checkpoints/*/*", "**/*.css", "**/*.html", "**/*.js", "**/*.json", "**/*.yaml"]},
    install_requires=[
        "huggingface_hub>=1,<3",
        "numpy>=1.26",
        "open3d>=0.18,<0.21",
        "opencv-python>=4.8,<5",
        "PyYAML>=6",
        "safetensors>=0.4.5",
        "scipy>=1.11",
        "tokenizers>=0.22",
        "torch>=2.6",
        "transformers>=5,<6",
    ],
    extras_require={
        "eval": EVAL,
        # METEOR and the PTB tokenizer, which Java runs
        "captions": ["pycocoevalcap>=1.2,<2"],
        # NYU Depth v2 as its authors publish it, one HDF5 file
        "nyu": NYU,
        "train": [*EVAL, *TRAIN],
        "viz": VIZ,
        "test": [
            *EVAL,
            *NYU,
            *TRAIN,
            *VIZ,
            "atheris>=2.3; python_version >= '3.11' and python_version < '3.14' and platform_machine == 'x86_64'",
            "hypothesis>=6.100",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
        ],
    },
    entry_points={"console_scripts": ["vidllm = vidllm_ros.cli:main"]},
    zip_safe=False,
)
