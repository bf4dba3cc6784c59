"""Coverage-guided fuzzing of what reads foreign bytes, with atheris.

    python test/support/coverage_fuzz.py image|compressed|bag [options of libFuzzer, such as -max_total_time=600]

Ends with 0 when every input gave a value or the one error that is meant for it, within the limits of memory and time.
"""

import array
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vidllm_ros", "rosbags", "mcap"], enable_loader_override=False):
    import cv2
    import numpy as np
    from bag_maker import camera_info, compressed, raw, write_bag
    from rosbags.rosbag2 import StoragePlugin
    from sensor_msgs.msg import CompressedImage, Image

    from vidllm_ros.evaluation.errors import BagError
    from vidllm_ros.evaluation.recordings.bags import CAMERA_INFO, COMPRESSED_IMAGE, RAW_IMAGE, Bag
    from vidllm_ros.node.input.images import ENCODINGS, ImageError, rgb_from_compressed, rgb_from_image

# It needs 100 MB, but Linux starts the high-water mark of a new process at that of the one that made it.
MEGABYTES, SECONDS = 6000, 30
_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz_"))


def image(data: bytes) -> None:
    source = atheris.FuzzedDataProvider(data)
    message = Image(
        width=source.ConsumeInt(2) % 2**16,
        height=source.ConsumeInt(2) % 2**16,
        step=source.ConsumeInt(4) % 2**32,
        is_bigendian=source.ConsumeBool(),
        encoding=source.PickValueInList([*ENCODINGS, "", "32FC1"]),
    )
    message.data = array.array("B", source.ConsumeBytes(source.remaining_bytes()))
    try:
        rgb = rgb_from_image(message)
    except ImageError:
        return
    assert rgb.dtype == np.uint8 and rgb.shape == (message.height, message.width, 3)


def compressed_image(data: bytes) -> None:
    try:
        rgb = rgb_from_compressed(CompressedImage(format="", data=array.array("B", data)))
    except ImageError:
        return
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3


def bag(data: bytes) -> None:
    path = _FOLDER / ("bag.mcap" if data[:1] < b"\x80" else "bag.db3")
    path.write_bytes(data[1:])
    try:
        with Bag(path) as recording:
            for frame in recording.frames():
                recording.decode(frame.image, recording.image_topic)
    except BagError:
        pass
    finally:
        path.unlink()


def seeds(target: str) -> Path:
    """A folder of good inputs to start from."""
    folder = _FOLDER / "seeds"
    folder.mkdir()
    if target == "compressed":
        for ending in (".png", ".jpg", ".bmp", ".tiff", ".webp"):
            encoded = cv2.imencode(ending, np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3))[1]
            (folder / ending[1:]).write_bytes(encoded.tobytes())
    elif target == "bag":
        messages = [("/image", RAW_IMAGE, 1, raw(1)), ("/camera_info", CAMERA_INFO, 1, camera_info(1, 50.0))]
        messages.append(("/image/compressed", COMPRESSED_IMAGE, 2, compressed(2)))
        for storage, first in ((StoragePlugin.MCAP, b"\0"), (StoragePlugin.SQLITE3, b"\xff")):
            made = write_bag(_FOLDER / storage.name, messages, storage)
            (file,) = [path for path in made.iterdir() if path.suffix in (".mcap", ".db3")]
            (folder / storage.name).write_bytes(first + file.read_bytes())
    else:
        (folder / "rgb8").write_bytes(bytes([4, 0, 6, 0, 12, 0, 0, 0, 0, 0]) + bytes(72))
    return folder


TARGETS = {"image": image, "compressed": compressed_image, "bag": bag}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(TARGETS)} [libFuzzer options]")
    limits = [f"-rss_limit_mb={MEGABYTES}", f"-timeout={SECONDS}", "-max_len=65536", f"-artifact_prefix={_FOLDER}/"]
    atheris.Setup([sys.argv[0], *limits, *sys.argv[2:], str(seeds(sys.argv[1]))], TARGETS[sys.argv[1]])
    atheris.Fuzz()
