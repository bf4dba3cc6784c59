"""Checkpoint folders: bit-for-bit round trips, and one clear error for each way to be damaged."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from miniature import config, vidllm, window
from safetensors.torch import load_file, save_file

from vidllm_ros.model import CheckpointError, VidLLM
from vidllm_ros.model.checkpoint import shared_names, weightless

FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def model() -> VidLLM:
    return vidllm()


@pytest.fixture
def folder(model, tmp_path) -> Path:
    model.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def load_error(folder: Path, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        VidLLM.from_pretrained(folder, **options)
    message = str(caught.value)
    assert str(folder) in message
    return message


def edit_config(folder: Path, change) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def edit_weights(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def same_state(a: VidLLM, b: VidLLM) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


def test_a_folder_holds_safetensors_json_and_a_tokenizer(folder):
    assert {path.name for path in folder.iterdir()} == FILES


def test_float32_round_trip_is_bit_for_bit(model, folder, tmp_path):
    loaded = VidLLM.from_pretrained(folder)
    assert same_state(loaded, model) and loaded.config == model.config and not loaded.training
    loaded.save_pretrained(tmp_path / "again")
    # transformers notes in tokenizer_config.json that the tokenizer came from a folder; everything else is the same.
    for name in FILES - {"tokenizer_config.json"}:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_round_trip_is_bit_for_bit(model, tmp_path, dtype):
    model.save_pretrained(tmp_path / "half", dtype=dtype)
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {getattr(torch, dtype)}
    for kept in ("auto", dtype):
        VidLLM.from_pretrained(tmp_path / "half", dtype=kept).save_pretrained(tmp_path / kept, dtype=dtype)
        written = (tmp_path / kept / "model.safetensors").read_bytes()
        assert written == (tmp_path / "half" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("stored", ["auto", "float16"])
def test_the_processor_computes_in_float32_unless_told_otherwise(model, tmp_path, stored):
    model.save_pretrained(tmp_path, dtype=stored)
    assert {p.dtype for p in VidLLM.from_pretrained(tmp_path).parameters()} == {torch.float32}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_keeps_the_reconstruction_heads_in_float32(folder, dtype):
    loaded = VidLLM.from_pretrained(folder, dtype=dtype)
    for name, parameter in loaded.named_parameters():
        head = "_head." in name or "metric_depth." in name
        assert parameter.dtype == (torch.float32 if head else getattr(torch, dtype)), name
    out = loaded.reconstruct(window())
    assert out.depth.dtype == torch.float32 and out.depth.isfinite().all()
    assert loaded.ask(out, "How many chairs?", max_new_tokens=2).token_count <= 2


def test_a_loaded_model_computes_what_the_saved_one_did(model, folder):
    expected, got = model.reconstruct(window()), VidLLM.from_pretrained(folder).reconstruct(window())
    assert torch.equal(got.depth, expected.depth) and torch.equal(got.pose_encoding, expected.pose_encoding)


def test_tied_weights_are_stored_once_and_tied_again(model, folder):
    aliases = shared_names(model)
    assert aliases == {"_language.llm.lm_head.weight": "_language.llm.model.embed_tokens.weight"}
    assert not set(aliases) & set(load_file(folder / "model.safetensors"))
    llm = VidLLM.from_pretrained(folder).language.llm
    assert llm.get_output_embeddings().weight is llm.get_input_embeddings().weight


def test_a_reconstruction_only_network_needs_no_tokenizer(tmp_path):
    VidLLM(config()).save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert VidLLM.from_pretrained(tmp_path).reconstruct(window()).depth.isfinite().all()


def test_saving_again_replaces_the_old_files(folder):
    other = vidllm(seed=1)
    other.save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == FILES
    assert same_state(VidLLM.from_pretrained(folder), other)


def test_a_save_that_breaks_off_leaves_the_old_weights(model, folder, monkeypatch):
    def torn(tensors, path, metadata):
        Path(path).write_bytes(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr("vidllm_ros.model.checkpoint.save_file", torn)
    with pytest.raises(OSError, match="no space left"):
        vidllm(seed=1).save_pretrained(folder)
    monkeypatch.undo()
    assert same_state(VidLLM.from_pretrained(folder), model)


def test_no_folder(tmp_path):
    assert "is not a folder; give one that holds config.json" in load_error(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no model.safetensors (other weight formats are not read)"),
        ("tokenizer.json", "has no usable tokenizer"),
    ],
)
def test_a_missing_file(folder, name, message):
    (folder / name).unlink()
    assert message in load_error(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_truncated_weights(folder, keep):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    assert "is not a whole safetensors file" in load_error(folder)


class Boom:
    """Unpickling this would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("write", [pickle.dump, torch.save])
def test_a_pickle_that_pretends_to_be_safetensors_is_not_unpickled(folder, tmp_path, write):
    mark = tmp_path / "unpickled"
    with (folder / "model.safetensors").open("wb") as file:
        write({"weight": Boom(mark)}, file)
    assert "is not a whole safetensors file" in load_error(folder)
    assert not mark.exists()


def test_weights_in_another_format_are_not_read(folder, model):
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "other weight formats are not read" in load_error(folder)


def test_a_tensor_of_another_shape(folder):
    name = "reconstruction.depth_head.conv3.weight"
    edit_weights(folder, lambda tensors: tensors.update({name: torch.zeros(2, 9, 1, 1)}))
    assert f"tensor '{name}' has shape (2, 9, 1, 1); config.json makes it (2, 8, 1, 1)" in load_error(folder)


def test_missing_and_unexpected_tensors(folder):
    edit_weights(folder, lambda tensors: tensors.pop("reconstruction.depth_head.conv3.bias"))
    message = load_error(folder)
    assert "1 tensors are missing (first: 'reconstruction.depth_head.conv3.bias'), 0 are unexpected" in message
    edit_weights(folder, lambda tensors: tensors.update({"extra": torch.zeros(1)}))
    assert "1 are unexpected (first: 'extra')" in load_error(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("\x00\xff", "is not JSON"),
        ("[1]", "must hold a mapping, not list"),
        ('{"colour": 1}', "unknown configuration key 'colour'"),
        ('{"encoder": {"width": 1}}', "unknown configuration key 'encoder.width'"),
        ('{"adapter": {"variant": "bridges"}}', "adapter.variant 'bridges' is not one of"),
        ('{"image_size": ["a", 3]}', "config.json"),
        ('{"metric_depth": {"bins": "64"}}', "config.json"),
    ],
)
def test_an_unusable_configuration(folder, text, message):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    assert message in load_error(folder)


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("encoder", "heads", 3, "encoder.dim is 32; it must be a multiple of encoder.heads, 3"),
        ("encoder", "dim", "wide", "encoder.dim is 'wide'; it must be a whole number of at least 1"),
        ("camera_head", "iterations", 0, "camera_head.iterations is 0; it must be a whole number of at least 1"),
        ("backbone", "heads", 3, "describes no network that can be built: width 32 is not divisible by 3 heads"),
        ("backbone", "heads", 16, "rotary positions need heads of a multiple of 4 channels, not 32 / 16"),
        ("depth_head", "channels", [8, 12, -1, 16], "describes no network that can be built"),
        ("language", "llm", {"model_type": "abacus"}, "describes no network that can be built"),
    ],
)
def test_sizes_that_no_network_can_have(folder, part, key, value, message):
    edit_config(folder, lambda values: values[part].update({key: value}))
    assert message in load_error(folder)


def test_a_configuration_of_another_size(folder):
    edit_config(folder, lambda values: values["depth_head"].update(head_features=9))
    assert "has shape" in load_error(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "1.0"}'])
def test_an_unusable_tokenizer(folder, content):
    (folder / "tokenizer.json").write_text(content)
    assert "has no usable tokenizer" in load_error(folder)


def test_an_unknown_dtype(folder):
    with pytest.raises(ValueError, match="dtype 'half' is not one of auto, float32, float16, bfloat16"):
        VidLLM.from_pretrained(folder, dtype="half")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_an_absent_device_is_an_error_not_a_fallback(folder):
    with pytest.raises(CheckpointError, match="cannot be put on device 'cuda'"):
        VidLLM.from_pretrained(folder, device="cuda")


def test_an_unknown_device(folder):
    with pytest.raises(CheckpointError, match="device 'gpu'"):
        VidLLM.from_pretrained(folder, device="gpu")


def test_a_lost_vocabulary_is_no_silent_empty_tokenizer(folder):
    # The class that many published models name makes an empty vocabulary without a word.
    (folder / "tokenizer.json").unlink()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "Qwen2Tokenizer"}))
    assert "has no usable tokenizer: its vocabulary cannot write plain words" in load_error(folder)


def test_a_loaded_network_has_all_its_values_and_later_modules_have_theirs(folder):
    with pytest.raises(RuntimeError, match="interrupted"), weightless():
        assert torch.nn.Linear(2, 2).weight.is_meta
        raise RuntimeError("interrupted")
    model = VidLLM.from_pretrained(folder)
    assert not [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    assert not torch.nn.Linear(2, 2).weight.is_meta
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == [
        "reconstruction.encoder.dinov2.embeddings.mask_token"
    ]
