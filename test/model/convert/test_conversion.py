"""``vidllm convert``: which files it reads, what it writes, and one clear error for each way to be wrong."""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from miniature import full_config, vidllm
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Dinov2WithRegistersConfig, Dinov2WithRegistersModel, Qwen2Config
from vggt_layout import Sizes, encoder_shapes, miniature_vggt, random_tensors

from vidllm_ros import cli
from vidllm_ros.model import VidLLM
from vidllm_ros.model.convert.card import hub_licence
from vidllm_ros.model.convert.conversion import Request, convert
from vidllm_ros.model.convert.shapes import Heads
from vidllm_ros.model.convert.sources import ConversionError, read_tensors
from vidllm_ros.model.reasoning.tokenizer import train_tokenizer
from vidllm_ros.model.sizes import SIZES, large

S = Sizes()
HEADS = ["--encoder-heads", str(S.encoder_heads)]
WINDOW = torch.rand(1, 3, 3, 28, 42, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vggt_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("vggt") / "model.safetensors"
    save_file(miniature_vggt(), path)
    return path


@pytest.fixture(scope="module")
def converted(vggt_file, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "checkpoint"
    assert cli.main(["convert", "--vggt", str(vggt_file), *HEADS, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def llm_folder(tmp_path_factory) -> Path:
    """A causal language model as transformers publishes it, with a tokenizer that knows no marks."""
    folder = tmp_path_factory.mktemp("language") / "tiny-llm"
    tokenizer = train_tokenizer(["How many chairs are there? There are 12 chairs."] * 4)
    settings = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(settings).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: tiny-research\n---\n# Tiny\n")
    return folder


def failure(capsys, *arguments: object) -> str:
    """The one line on stderr of a command that fails."""
    capsys.readouterr()
    assert cli.main(["convert", *(str(a) for a in arguments)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("vidllm: error: ") and error.count("\n") == 1
    return error


def front_matter(folder: Path) -> dict:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def test_the_report_counts_tensors_and_states_licences(vggt_file, tmp_path, capsys):
    cli.main(["convert", "--vggt", str(vggt_file), *HEADS, "--out", str(tmp_path / "out")])
    text = capsys.readouterr().out
    total = len(load_file(vggt_file))
    points = sum(name.startswith("point_head.") for name in load_file(vggt_file))
    assert (
        f"{total - points - 1} tensors taken over, {points + 1} left out ({points} of point_head, 1 of track_head)"
        in text
    )
    assert "VGGT-1B is CC BY-NC 4.0, non-commercial" in text
    assert "not trained" in text and "adapter; metric depth" in text


def test_the_folder_is_a_checkpoint_with_a_card(converted):
    assert {path.name for path in converted.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    out = VidLLM.from_pretrained(converted).reconstruct(WINDOW)
    assert out.relative_depth.isfinite().all() and len(out.pose_encodings) == 4
    card = (converted / "README.md").read_text()
    assert "CC BY-NC 4.0" in card and "**depth in metres and the scale mean nothing**" in card
    assert front_matter(converted)["untrained"] == ["adapter", "metric depth"]
    assert {tensor.dtype for tensor in load_file(converted / "model.safetensors").values()} == {torch.float32}


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_gives_the_same_checkpoint(vggt_file, converted, tmp_path, wrapper, zipped):
    tensors = load_file(vggt_file)
    content = {wrapper: tensors} if wrapper else tensors
    torch.save(content, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    cli.main(["convert", "--vggt", str(tmp_path / "model.pt"), *HEADS, "--out", str(tmp_path / "out")])
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (converted / name).read_bytes(), name


def test_a_folder_of_the_hub_and_its_parts(vggt_file, converted, tmp_path):
    tensors = load_file(vggt_file)
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for part, held in parts.items():
        save_file({name: tensors[name] for name in held}, tmp_path / part)
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    (tmp_path / "model.safetensors.index.json").write_text(str(index).replace("'", '"'))
    (tmp_path / "config.json").write_text('{"img_size": 518, "patch_size": 14, "embed_dim": 1024}')
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    cli.main(["convert", "--vggt", str(tmp_path), *HEADS, "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (converted / "model.safetensors").read_bytes()
    assert front_matter(tmp_path / "out")["sources"][0]["licence"] == "cc-by-nc-4.0"


def test_an_index_that_points_elsewhere_is_refused(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../other.safetensors"}}')
    with pytest.raises(ConversionError, match="points outside its folder"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("layout", ["hub", "transformers", "with a task head"])
def test_both_layouts_of_dinov2_give_the_same_encoder(layout, tmp_path):
    config = Dinov2WithRegistersConfig(
        hidden_size=64, num_hidden_layers=4, num_attention_heads=1, num_register_tokens=2, image_size=42, patch_size=14,
        mlp_ratio=2,
    )  # fmt: skip
    tensors = random_tensors(
        encoder_shapes(Sizes(dim=64, encoder_layers=4, encoder_heads=1, encoder_registers=2, grid=3))
    )
    torch.save(tensors, tmp_path / "hub.pth")
    hub = convert(Request(base=narrow(64), dinov2=tmp_path / "hub.pth"))
    assert hub.untrained == ("backbone, camera head, depth head", "adapter", "metric depth")
    assert hub.origins[0].licence == "Apache-2.0" and hub.used == len(tensors)
    if layout == "hub":
        return
    published = Dinov2WithRegistersModel(config)
    published.load_state_dict(hub.model.reconstruction.encoder.dinov2.state_dict())
    published.save_pretrained(tmp_path / "folder")
    if layout == "with a task head":
        path = tmp_path / "folder" / "model.safetensors"
        save_file({f"dinov2_with_registers.{name}": t for name, t in load_file(path).items()}, path)
    again = convert(Request(base=narrow(64), dinov2=tmp_path / "folder"))
    left, right = hub.model.reconstruction.encoder.state_dict(), again.model.reconstruction.encoder.state_dict()
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    with torch.no_grad():
        images = WINDOW[0]
        pixels = (images - again.model.reconstruction.encoder.mean) / again.model.reconstruction.encoder.std
        theirs = published.eval()(pixels).last_hidden_state[:, 3:]
        torch.testing.assert_close(again.model.encode(images)[:, -1], theirs, rtol=1e-5, atol=1e-5)


def narrow(dim: int):
    """``large`` with parts of a size that suits a narrow encoder and a quick test."""
    base = large()
    return replace(
        base,
        backbone=replace(base.backbone, pairs=4, heads=dim // 16, head_layers=(0, 1, 2, 3)),
        depth_head=replace(base.depth_head, features=8, channels=(8, 8, 8, 8)),
    )


@pytest.mark.parametrize(
    ("key", "value"), [("layer_norm_eps", 1e-5), ("hidden_act", "relu"), ("use_swiglu_ffn", True), ("qkv_bias", False)]
)
def test_settings_that_shapes_do_not_show_are_checked(key, value, tmp_path):
    save_file(random_tensors(encoder_shapes(S)), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        f'{{"{key}": {str(value).lower() if isinstance(value, bool) else repr(value)}}}'.replace("'", '"')
    )
    with pytest.raises(ConversionError, match=f"{key} is .* can be represented"):
        convert(Request(base=narrow(32), dinov2=tmp_path, heads=Heads(encoder=2)))


def test_another_encoder_replaces_that_of_vggt_and_says_so(vggt_file, tmp_path):
    torch.save(random_tensors(encoder_shapes(S), seed=5), tmp_path / "dinov2.pth")
    request = Request(base=large(), vggt=vggt_file, heads=Heads(encoder=2))
    plain, other = convert(request), convert(replace(request, dinov2=tmp_path / "dinov2.pth"))
    assert other.origins[1].remark == "not the one that the backbone was trained with"
    for name, tensor in plain.model.reconstruction.state_dict().items():
        same = torch.equal(tensor, other.model.reconstruction.state_dict()[name])
        assert same != name.startswith("encoder."), name


def test_a_language_model_joins_the_geometry(vggt_file, llm_folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["convert", "--vggt", str(vggt_file), *HEADS, "--llm", str(llm_folder), "--out", str(out)]) == 0
    assert "language model, from " in (text := capsys.readouterr().out) and ": tiny-research" in text
    assert [source["licence"] for source in front_matter(out)["sources"]][1] == "tiny-research"
    model = VidLLM.from_pretrained(out)
    published = AutoModelForCausalLM.from_pretrained(llm_folder)
    known = published.get_input_embeddings().weight
    assert torch.equal(model.language.llm.get_input_embeddings().weight[: len(known)], known.float())
    assert (model.config.patches.feature_dim, model.config.grounding.state_dim) == (S.dim, 16)
    assert model.config.language.scene_attention == "causal"
    geometry = model.reconstruct(WINDOW)
    assert model.ask(geometry, "How many chairs are there?", max_new_tokens=2).token_count <= 2
    assert isinstance(model.locate(geometry, ["chair"]), list)
    stored = load_file(out / "model.safetensors")
    assert stored["_language.llm.model.norm.weight"].dtype == torch.bfloat16  # as published
    assert stored["reconstruction.backbone.camera_token"].dtype == torch.float32


def test_a_converted_folder_can_be_converted_on(converted, llm_folder, tmp_path):
    cli.main(["convert", "--vggt", str(converted), "--out", str(tmp_path / "same")])
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "same" / name).read_bytes() == (converted / name).read_bytes(), name
    assert front_matter(tmp_path / "same") == front_matter(converted)
    cli.main(["convert", "--vggt", str(converted), "--llm", str(llm_folder), "--out", str(tmp_path / "more")])
    more, before = VidLLM.from_pretrained(tmp_path / "more"), VidLLM.from_pretrained(converted)
    for name, tensor in before.reconstruction.state_dict().items():
        assert torch.equal(tensor, more.reconstruction.state_dict()[name]), name
    front = front_matter(tmp_path / "more")
    assert [source["parts"] for source in front["sources"]] == [
        "encoder, backbone, camera head, depth head", "language model",
    ]  # fmt: skip
    assert front["untrained"] == ["adapter", "metric depth", "scene projector, 3D patches, grounding"]


def test_a_checkpoint_with_a_language_model_stays_whole(tmp_path):
    model = vidllm()
    model.save_pretrained(tmp_path / "trained")
    (tmp_path / "trained" / "LICENSE").write_text("\nApache License\nVersion 2.0\n")
    cli.main(["convert", "--vggt", str(tmp_path / "trained"), "--out", str(tmp_path / "out")])
    again = VidLLM.from_pretrained(tmp_path / "out")
    assert again.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert front_matter(tmp_path / "out")["sources"][0]["licence"] == "Apache License (see LICENSE)"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_stored_precision_can_be_chosen(vggt_file, tmp_path, dtype):
    cli.main(["convert", "--vggt", str(vggt_file), *HEADS, "--dtype", dtype, "--out", str(tmp_path / "out")])
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, dtype)}


def test_the_seed_decides_what_starts_at_random(vggt_file):
    request = Request(base=large(), vggt=vggt_file, heads=Heads(encoder=2))
    torch.manual_seed(1)
    first = convert(request).model.state_dict()
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))  # the caller's own random numbers are left alone
    again, other = convert(request).model.state_dict(), convert(replace(request, seed=1)).model.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["reconstruction.metric_depth.hidden.weight"], other["reconstruction.metric_depth.hidden.weight"]
    )


def test_a_licence_that_cannot_be_looked_up_is_no_failure():
    assert hub_licence("not a name!") == "not found; see https://huggingface.co/not a name!"


def test_every_size_takes_a_language_model():
    for make in SIZES.values():
        assert make().patches is not None and make().grounding is not None
    assert full_config().patches is not None


class Boom:
    """Unpickling this would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.bin", "model.safetensors"])
@pytest.mark.parametrize("write", [torch.save, pickle.dump])
def test_a_pickle_with_more_than_tensors_is_never_unpickled(name, write, tmp_path, capsys):
    mark = tmp_path / "unpickled"
    with (tmp_path / name).open("wb") as file:
        write({"aggregator.camera_token": Boom(mark)}, file)
    error = failure(capsys, "--vggt", tmp_path / name, "--out", tmp_path / "out")
    assert str(tmp_path / name) in error and ("more than tensors" in error or "not a whole" in error)
    assert not mark.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_truncated_files(vggt_file, tmp_path, capsys, name, keep):
    path = tmp_path / name
    torch.save(load_file(vggt_file), path) if name.endswith("pt") else path.write_bytes(vggt_file.read_bytes())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    error = failure(capsys, "--vggt", path, "--out", tmp_path / "out")
    assert str(path) in error and ("is not a whole" in error or "more than tensors" in error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("aggregator.frame_blocks.1.ls1.gamma"), "lack 1 tensors, first 'backbone.frame_blocks.1.ls1"),
        (
            lambda t: t.update({"aggregator.extra": torch.zeros(2)}),
            "the tensor 'aggregator.extra' of shape (2,) is not",
        ),
        (lambda t: t.update({"depth_head.norm.weight": torch.ones(3)}), "'depth_head.norm.weight' makes"),
        (
            lambda t: t["camera_head.token_norm.bias"].fill_(float("nan")),
            "'camera_head.token_norm.bias' holds torch.float32 that are not finite",
        ),
        (
            lambda t: [t.pop(name) for name in list(t) if name.startswith("depth_head.")],
            "is no whole VGGT: nothing in it belongs to 'depth_head.'",
        ),
        (lambda t: t.clear() or t.update({"point_head.norm.weight": torch.ones(3)}), "is no whole VGGT"),
        (lambda t: t.update({"depth_head.scratch.layer1_rn.weight": torch.zeros(9, 8, 3, 3)}), "multiple of 8"),
    ],
)
def test_weights_that_do_not_fit(vggt_file, tmp_path, capsys, change, message):
    tensors = load_file(vggt_file)
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    assert message in failure(capsys, "--vggt", tmp_path / "model.safetensors", *HEADS, "--out", tmp_path / "out")


def test_calls_that_cannot_be_served(vggt_file, converted, tmp_path, capsys):
    out = tmp_path / "out"
    assert "nothing to convert" in failure(capsys, "--out", out)
    assert f"there is no weight file '{tmp_path / 'no.pt'}'" in failure(
        capsys, "--vggt", tmp_path / "no.pt", "--out", out
    )
    (tmp_path / "notes.txt").write_text("hello")
    assert "is neither .safetensors nor one of .pt" in failure(capsys, "--vggt", tmp_path / "notes.txt", "--out", out)
    assert "holds no model.safetensors" in failure(capsys, "--vggt", tmp_path, "--out", out)
    assert "exists and is not an empty folder" in failure(capsys, "--vggt", vggt_file, "--out", tmp_path)
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    assert "no tensors by name, but a list" in failure(capsys, "--vggt", tmp_path / "list.pt", "--out", out)
    torch.save({"epoch": 3}, tmp_path / "mixed.pt")
    assert "holds 'epoch', a int, among its tensors" in failure(capsys, "--vggt", tmp_path / "mixed.pt", "--out", out)
    assert "say how many heads it has with --encoder-heads" in failure(capsys, "--vggt", vggt_file, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "is no causal language model: it holds no config.json"),
        ("tokenizer.json", "is no causal language model that can be read"),
        ("model.safetensors", "is no causal language model that can be read"),
    ],
)
def test_language_models_that_lack_a_file(converted, llm_folder, tmp_path, capsys, missing, message):
    folder = tmp_path / "broken"
    shutil.copytree(llm_folder, folder)
    (folder / missing).unlink()
    error = failure(capsys, "--vggt", converted, "--llm", folder, "--out", tmp_path / "out")
    assert f"'{folder}' {message}" in error


def test_a_pickled_language_model_is_not_read(converted, llm_folder, tmp_path, capsys):
    folder = tmp_path / "pickled"
    shutil.copytree(llm_folder, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    error = failure(capsys, "--vggt", converted, "--llm", folder, "--out", tmp_path / "out")
    assert "is no causal language model that can be read" in error


@pytest.mark.parametrize(
    "arguments", [["--out", "x", "--config", "huge"], ["--vggt", "x"], ["--out", "x", "--encoder-heads", "0"]]
)
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["convert", *arguments])
    assert stop.value.code == 2
