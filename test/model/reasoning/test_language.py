"""The language model: packing, the reusable scene prefix, streaming, and what it refuses."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from vidllm_ros.model.outputs import SceneTokens
from vidllm_ros.model.reasoning.language import LanguageConfig, LanguageModel, QuestionError, locate_pair
from vidllm_ros.model.reasoning.packing import attention_mask
from vidllm_ros.model.reasoning.tokenizer import LOC, encode_answer, encode_text, train_tokenizer

TEXTS = ["How many chairs are there? There are 12 chairs.", "The table is brown.", "Locate: the chair"] * 10
SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
DIM = 12
CONVERSATIONS = [
    [("How many chairs?", "12"), ("Where is the table?", f"{LOC} by the wall"), ("Colour?", "brown")],
    [("Is there a lamp in this room or not?", "no, there is none")],
]


def language_model(seed: int = 0, model_type: str = "qwen2", scene_attention: str = "full", **changes) -> LanguageModel:
    torch.manual_seed(seed)
    llm = {"model_type": model_type, "num_key_value_heads": 2, "initializer_range": 0.3} | SIZES
    config = LanguageConfig(DIM, llm, projector_hidden=16, scene_attention=scene_attention, **changes)
    return LanguageModel(config, train_tokenizer(TEXTS)).eval()


def scene(tokens: int = 7, seed: int = 0) -> SceneTokens:
    generator = torch.Generator().manual_seed(seed)
    return SceneTokens(torch.randn(tokens, DIM, generator=generator), torch.randn(tokens, 3, generator=generator))


def bare(model: LanguageModel, tokens: SceneTokens, text: list[int]):
    """The scene and then ``text`` through the bare transformers model, no cache and no packing.

    Returns the logits and the last hidden states at the positions of ``text``.
    """
    embed = model.llm.get_input_embeddings()
    before, after = embed(torch.tensor(model.marks.start)), embed(torch.tensor([model.marks.scene_end, *text]))
    inputs = torch.cat([before, model.projector(tokens.features), after]).unsqueeze(0)
    prefix = inputs.shape[1] - len(text)
    allowed = torch.ones(inputs.shape[1], inputs.shape[1], dtype=torch.bool).tril()
    if model.config.scene_attention == "full":
        allowed[:prefix, :prefix] = True
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf"))[None, None]
    result = model.llm(inputs_embeds=inputs, attention_mask=mask, output_hidden_states=True)
    return result.logits[0, prefix:], result.hidden_states[-1][0, prefix:]


def question_ids(model: LanguageModel, question: str) -> list[int]:
    return [model.marks.user, *encode_text(model.tokenizer, question), model.marks.assistant]


def alone(model: LanguageModel, tokens: SceneTokens, question: str, answer: str):
    """One pair by itself: the logits that predict the answer, the answer's ids, and the states at those ids."""
    asked, answered = question_ids(model, question), [*encode_answer(model.tokenizer, answer), model.marks.eos]
    logits, states = bare(model, tokens, asked + answered)
    return logits[len(asked) - 1 : -1], torch.tensor(answered), states[len(asked) :]


@pytest.mark.parametrize("model_type", ["qwen2", "llama", "gemma3_text"])
@pytest.mark.parametrize("scene_attention", ["full", "causal"])
def test_packed_loss_equals_the_pairs_computed_alone(model_type, scene_attention):
    model = language_model(model_type=model_type, scene_attention=scene_attention)
    scenes = [scene(7, 0), scene(4, 1)]
    packed = model.loss(scenes, CONVERSATIONS)
    losses, right, loc = [], [], None
    for tokens, conversation in zip(scenes, CONVERSATIONS, strict=True):
        for question, answer in conversation:
            logits, ids, states = alone(model, tokens, question, answer)
            losses.append(torch.nn.functional.cross_entropy(logits, ids, reduction="none"))
            right.append(logits.argmax(-1) == ids)
            if LOC in answer:
                loc = states[ids == model.marks.loc][0]
    torch.testing.assert_close(packed.loss, torch.cat(losses).mean(), rtol=1e-5, atol=1e-5)
    balanced = model.loss(scenes, CONVERSATIONS, balanced=True).loss
    torch.testing.assert_close(balanced, torch.stack([loss.mean() for loss in losses]).mean(), rtol=1e-5, atol=1e-5)
    assert packed.token_count == len(torch.cat(losses))
    assert packed.correct == pytest.approx(float(torch.cat(right).float().mean()))
    assert [[state is not None for state in row] for row in packed.loc_states] == [[False, True, False], [False]]
    torch.testing.assert_close(packed.loc_states[0][1], loc, rtol=1e-5, atol=1e-5)


def test_packed_gradient_equals_the_gradient_of_the_pairs_computed_alone():
    model = language_model()
    tokens = scene()
    pairs = CONVERSATIONS[0]
    model.loss([tokens], [pairs]).loss.backward()
    packed = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    losses = []
    for question, answer in pairs:
        logits, ids, _ = alone(model, tokens, question, answer)
        losses.append(torch.nn.functional.cross_entropy(logits, ids, reduction="none"))
    torch.cat(losses).mean().backward()
    for one, other in zip(packed, [parameter.grad for parameter in model.parameters()], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_pair_cannot_see_another_pair():
    model = language_model()
    first = model.loss([scene()], [[(f"Where is it?{k}", LOC) for k in range(3)]])
    second = model.loss(
        [scene()], [[("Where is it?0", LOC), ("Something else entirely?", LOC), ("Where is it?2", LOC)]]
    )
    torch.testing.assert_close(first.loc_states[0][0], second.loc_states[0][0])
    torch.testing.assert_close(first.loc_states[0][2], second.loc_states[0][2])
    assert not torch.allclose(first.loc_states[0][1], second.loc_states[0][1])


def test_attention_mask_by_hand():
    segments = torch.tensor([[0, 0, 1, 1, 2, -1]])
    allowed = attention_mask(segments, segments, torch.float32, full_prefix=True)[0, 0] == 0
    expected = [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert allowed.int().tolist() == expected
    causal = attention_mask(segments, segments, torch.float32, full_prefix=False)[0, 0] == 0
    assert causal[0].int().tolist() == [1, 0, 0, 0, 0, 0] and torch.equal(causal[1:], allowed[1:])
    torch.testing.assert_close(attention_mask(segments[:, 2:], segments, torch.float32, True)[0, 0] == 0, allowed[2:])


@pytest.mark.parametrize("model_type", ["qwen2", "llama", "gemma3_text"])
@pytest.mark.parametrize("scene_attention", ["full", "causal"])
@torch.no_grad()
def test_answers_from_the_cached_scene_equal_answers_from_scratch(model_type, scene_attention):
    model = language_model(model_type=model_type, scene_attention=scene_attention)
    prefix = model.read_scene(scene())
    for question in ("How many chairs?", "What colour is the table?"):
        text, reply, probabilities = question_ids(model, question), [], []
        while len(reply) < 8:
            logits = bare(model, scene(), text + reply)[0][-1].masked_fill(~model._allowed, float("-inf"))
            token = int(logits.argmax())
            if token == model.marks.eos:
                break
            reply.append(token)
            probabilities.append(float(logits.softmax(-1)[token]))
        answer = model.generate(prefix, question, 8)
        assert answer.token_count == len(reply) > 1
        assert answer.text == model.tokenizer.decode(reply, skip_special_tokens=True).replace("\ufffd", "").strip()
        assert answer.confidence == pytest.approx(sum(probabilities) / len(probabilities), abs=1e-5)


def test_a_prefix_is_not_changed_by_questions():
    model = language_model()
    prefix = model.read_scene(scene())
    first = model.generate(prefix, "How many chairs?", 10)
    model.generate(prefix, "Something quite different?", 10)
    model.loc_states(prefix, ["chair"])
    again = model.generate(prefix, "How many chairs?", 10)
    assert first[:4] == again[:4]
    assert prefix.cache.get_seq_length() == prefix.length == 7 + 2


def test_loc_states_of_many_phrases_equal_one_by_one_and_training():
    model = language_model()
    prefix = model.read_scene(scene())
    phrases = ["chair", "the brown table", "lamp"]
    states = model.loc_states(prefix, phrases)
    for phrase, state in zip(phrases, states, strict=True):
        torch.testing.assert_close(model.loc_state(prefix, phrase), state, rtol=1e-5, atol=1e-5)
        trained = model.loss([scene()], [[locate_pair(phrase)]]).loc_states[0][0]
        torch.testing.assert_close(trained, state, rtol=1e-5, atol=1e-5)
    assert model.loc_states(prefix, []).shape == (0, model.hidden)


def test_a_generated_loc_gives_the_state_that_training_saw():
    model = language_model()
    question, answer = "Where is the table?", f"{LOC} by the wall"
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss([scene()], [[(question, answer)]]).loss.backward()
        optimizer.step()
    reply = model.generate(model.read_scene(scene()), question)
    assert reply.text == "by the wall" and reply.finished
    trained = model.loss([scene()], [[(question, answer)]]).loc_states[0][0]
    torch.testing.assert_close(reply.loc_state, trained, rtol=1e-4, atol=1e-4)


def test_learns_answers_that_depend_on_the_scene_and_a_blind_copy_cannot():
    model = language_model()
    scenes = [scene(6, seed) for seed in range(2)]
    conversations = [
        [("How many chairs?", "two"), ("Is it red?", "yes")],
        [("How many chairs?", "none"), ("Is it red?", "no")],
    ]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(scenes, conversations).loss.backward()
        optimizer.step()
    for tokens, conversation in zip(scenes, conversations, strict=True):
        prefix = model.read_scene(tokens)
        for question, answer in conversation:
            reply = model.generate(prefix, question)
            assert reply.text == answer and reply.confidence > 0.8
    blind = [model.generate(model.read_scene(tokens, blind=True), "How many chairs?") for tokens in scenes]
    assert blind[0][:4] == blind[1][:4]
    assert model.loss(scenes, conversations, blind=True).loss > 0.5


def test_streamed_pieces_make_the_text_and_stopping_stops():
    model = language_model()
    prefix = model.read_scene(scene())
    pieces: list[str] = []
    whole = model.generate(prefix, "How many chairs?", 30, on_text=lambda piece: pieces.append(piece) or True)
    assert "".join(pieces).strip() == whole.text and len(pieces) > 2 and whole.finished
    seen: list[str] = []
    stopped = model.generate(prefix, "How many chairs?", 30, on_text=lambda piece: bool(seen.append(piece)))
    assert seen == pieces[:1] and not stopped.finished and stopped.token_count < whole.token_count
    assert 0 < whole.confidence <= 1 and whole.token_count <= 30


def test_temperature_draws_and_zero_does_not():
    model = language_model()
    prefix = model.read_scene(scene())
    texts = {model.generate(prefix, "Why?", 12, temperature=1.5).text for _ in range(6)}
    assert len(texts) > 1
    assert len({model.generate(prefix, "Why?", 12).text for _ in range(3)}) == 1


def test_marks_in_a_question_are_text():
    model = language_model()
    spelled = model._question_ids("How many?<assistant>12<eos><user>So?")
    assert spelled.count(model.marks.assistant) == 1 and spelled.count(model.marks.user) == 1
    assert model.marks.eos not in spelled


def test_an_empty_scene_is_answered():
    model = language_model()
    prefix = model.read_scene(scene(0))
    assert prefix.length == 2
    assert model.generate(prefix, "How many chairs?", 4).token_count <= 4
    assert model.loss([scene(0), scene(3)], CONVERSATIONS).loss.isfinite()


def test_bad_questions_are_refused():
    model = language_model(max_question_tokens=20)
    prefix = model.read_scene(scene())
    with pytest.raises(QuestionError, match="empty"):
        model.generate(prefix, " \n")
    with pytest.raises(QuestionError, match="at most 20 tokens"):
        model.generate(prefix, "q" * 40)
    with pytest.raises(QuestionError, match="100000 characters; at most 20 tokens"):
        model.generate(prefix, "q" * 100_000)
    with pytest.raises(QuestionError, match="label is empty"):
        model.loc_states(prefix, ["chair", " "])
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        model.generate(prefix, "Why?", 0)
    with pytest.raises(ValueError, match="temperature is -1"):
        model.generate(prefix, "Why?", temperature=-1.0)
    with pytest.raises(ValueError, match="2 scenes and 1 conversations"):
        model.loss([scene(), scene()], [[("a?", "b")]])


def test_bad_configurations_are_refused():
    with pytest.raises(ValueError, match="scene_attention is 'both'"):
        LanguageConfig(DIM, {"model_type": "qwen2"}, 8, scene_attention="both")
    with pytest.raises(ValueError, match="no model_type"):
        LanguageConfig(DIM, {}, 8)
    with pytest.raises(ValueError, match="projector_hidden is 0"):
        LanguageConfig(DIM, {"model_type": "qwen2"}, 0)
    tokenizer = train_tokenizer(TEXTS)
    with pytest.raises(ValueError, match="vocab_size is 5"):
        LanguageModel(LanguageConfig(DIM, {"model_type": "qwen2", "vocab_size": 5} | SIZES, 8), tokenizer)
    with pytest.raises(ValueError, match="not a configuration that transformers knows"):
        LanguageModel(LanguageConfig(DIM, {"model_type": "no_such_model"}, 8), tokenizer)


def test_builds_on_a_pretrained_causal_model(tmp_path):
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS)
    plain = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=len(tokenizer) - 5, **SIZES))
    plain.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = LanguageModel.from_causal_lm(tmp_path, feature_dim=DIM).eval()
    assert model.config.scene_attention == "causal" and model.config.llm["vocab_size"] == len(tokenizer)
    old, new = plain.get_input_embeddings().weight, model.llm.get_input_embeddings().weight
    torch.testing.assert_close(new[: len(old)], old)
    rebuilt = LanguageModel(model.config, model.tokenizer).eval()
    rebuilt.load_state_dict(model.state_dict())
    first, second = (m.generate(m.read_scene(scene()), "How many chairs?", 6) for m in (model, rebuilt))
    assert first[:4] == second[:4]
