import pytest
import torch

from vidllm_ros.model import CheckpointError
from vidllm_ros.node.checkpoints import load_model, resolve_checkpoint, resolve_device


def test_a_folder_is_taken_as_it_is(checkpoint):
    assert resolve_checkpoint(str(checkpoint)) == checkpoint
    assert load_model(str(checkpoint), "auto", torch.device("cpu")).config.name == "miniature"


@pytest.mark.parametrize("name", ["", "  ", "no/such/folder", "nanno"])
def test_what_is_no_checkpoint_is_named(name):
    with pytest.raises(CheckpointError, match=name.strip() or "empty"):
        resolve_checkpoint(name)


def test_auto_takes_cuda_only_where_it_is():
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", *([] if torch.cuda.is_available() else ["cuda", "cuda:0"])])
def test_a_cuda_device_that_is_not_there_is_never_replaced(name):
    with pytest.raises(CheckpointError, match=f"'{name}'.*CUDA devices here; set device to cpu"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "mps", "cpu:1", "", "cuda:x"])
def test_an_unknown_device_is_refused_with_what_is_known(name):
    with pytest.raises(CheckpointError, match="must be auto, cpu, cuda or cuda:N"):
        resolve_device(name)
