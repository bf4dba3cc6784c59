"""The language model that reads a scene's 3D patches and answers questions (paper section 3.3)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from vidllm_ros.model.outputs import SceneTokens
from vidllm_ros.model.reasoning.decoding import decode
from vidllm_ros.model.reasoning.language_types import (
    Generation,
    LanguageConfig,
    LanguageLoss,
    QuestionError,
    ScenePrefix,
    locate_pair,
)
from vidllm_ros.model.reasoning.packing import PREFIX, Pair, attention_mask, pack
from vidllm_ros.model.reasoning.tokenizer import (
    TextStream,
    add_conversation_marks,
    encode_answer,
    encode_text,
    load_tokenizer,
    mark_ids,
)


class LanguageModel(nn.Module):
    """A causal language model behind a projector for scene tokens.

    A sequence is ``<scene>`` scene tokens ``</scene>`` and then, for each question, ``<user>`` question ``<assistant>``
    answer end-of-text.

    Args:
        config: sizes; the language model gets random weights.
        tokenizer: with the conversation marks.

    Raises:
        ValueError: the configuration names no known model, or its vocabulary is smaller than the tokenizer's.
    """

    llm: PreTrainedModel
    _allowed: Tensor

    def __init__(self, config: LanguageConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        settings = {"vocab_size": len(tokenizer)} | config.llm
        try:
            llm_config = AutoConfig.for_model(**settings)
        except (ValueError, TypeError) as error:
            raise ValueError(f"language.llm is not a configuration that transformers knows: {error}") from error
        if llm_config.vocab_size < len(tokenizer):
            raise ValueError(
                f"language.llm.vocab_size is {llm_config.vocab_size}; the tokenizer has {len(tokenizer)} tokens"
            )
        self._assemble(config, tokenizer, AutoModelForCausalLM.from_config(llm_config, attn_implementation="sdpa"))

    def _assemble(self, config: LanguageConfig, tokenizer: PreTrainedTokenizerBase, llm: PreTrainedModel) -> None:
        self.config = replace(config, llm=config.llm | {"vocab_size": llm.config.vocab_size})
        self.tokenizer = tokenizer
        self.marks = mark_ids(tokenizer)
        self.llm = llm
        self.hidden = int(llm.config.hidden_size)
        self.projector = nn.Sequential(
            nn.LayerNorm(config.feature_dim),
            nn.Linear(config.feature_dim, config.projector_hidden),
            nn.GELU(),
            nn.Linear(config.projector_hidden, self.hidden),
        )
        # Marks other than <LOC> and the end never belong in a reply; nor do ids beyond the tokenizer, which some models
        # keep for alignment.
        allowed = torch.zeros(llm.config.vocab_size, dtype=torch.bool)
        allowed[: len(tokenizer)] = True
        allowed[[*self.marks.start, self.marks.scene_end, self.marks.user, self.marks.assistant]] = False
        if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != self.marks.eos:
            allowed[tokenizer.pad_token_id] = False
        self.register_buffer("_allowed", allowed, persistent=False)

    @classmethod
    def from_causal_lm(
        cls,
        source: str | Path,
        feature_dim: int,
        projector_hidden: int | None = None,
        dtype: torch.dtype | str = "auto",
    ) -> LanguageModel:
        """Builds on a pretrained causal language model, whose tokenizer gains the conversation marks.

        Args:
            source: a folder or a model hub name; its remote code, if any, is not run.
            feature_dim: channels of the scene tokens.
            projector_hidden: hidden width of the projector; None for the language model's width.
            dtype: of the language model's weights.
        """
        tokenizer = load_tokenizer(source)
        llm = AutoModelForCausalLM.from_pretrained(
            str(source), trust_remote_code=False, use_safetensors=True, dtype=dtype, attn_implementation="sdpa"
        )
        add_conversation_marks(tokenizer)
        if len(tokenizer) > llm.config.vocab_size:
            llm.resize_token_embeddings(len(tokenizer))
        config = LanguageConfig(
            feature_dim=feature_dim,
            llm=llm.config.to_dict(),
            projector_hidden=projector_hidden or llm.config.hidden_size,
            scene_attention="causal",
        )
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        model._assemble(config, tokenizer, llm)
        return model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.projector.parameters()).device

    @torch.no_grad()
    def read_scene(self, scene: SceneTokens, blind: bool = False) -> ScenePrefix:
        """Computes the key/value cache of a scene.

        Args:
            scene: T tokens; none at all is allowed.
            blind: read an empty scene instead: the baseline that only knows the language.
        """
        embeddings = self._prefix_embeddings(scene, blind).unsqueeze(0)
        segments = torch.full(embeddings.shape[:2], PREFIX, device=embeddings.device)
        mask = attention_mask(segments, segments, embeddings.dtype, self.config.scene_attention == "full")
        result = self.llm(inputs_embeds=embeddings, attention_mask=mask, use_cache=True, logits_to_keep=1)
        return ScenePrefix(scene=scene, cache=result.past_key_values, length=embeddings.shape[1])

    @torch.no_grad()
    def generate(
        self,
        prefix: ScenePrefix,
        question: str,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        on_text: Callable[[str], bool] | None = None,
    ) -> Generation:
        """Answers a question about a scene.

        Args:
            prefix: the scene, from ``read_scene``.
            question: plain language.
            max_new_tokens: the longest reply.
            temperature: 0 always takes the most probable token; above, tokens are drawn at random.
            on_text: gets the text that each token completes, "" when none; returning False stops the reply.

        Raises:
            QuestionError: the question is empty or too long.
            ValueError: ``max_new_tokens`` is below 1, or ``temperature`` negative or not finite.
        """
        cache = copy.deepcopy(prefix.cache)
        ids = self._question_ids(question)

        def read(new: list[int]) -> tuple[Tensor, Tensor]:
            position = torch.arange(len(new), device=self.device) + cache.get_seq_length()
            result = self.llm(
                input_ids=torch.tensor([new], device=self.device),
                position_ids=position.unsqueeze(0),
                past_key_values=cache,
                use_cache=True,
                output_hidden_states=True,
                logits_to_keep=1,
            )
            logits = result.logits[0, -1].float().masked_fill(~self._allowed, -math.inf)
            return logits, result.hidden_states[-1][0, -1]

        stream = TextStream(self.tokenizer)
        return decode(read, ids, self.marks, stream, max_new_tokens, temperature, on_text)

    def loc_states(self, prefix: ScenePrefix, phrases: Sequence[str]) -> Tensor:
        """The states that name objects to the grounding decoder, all phrases in one pass.

        Args:
            prefix: the scene, from ``read_scene``.
            phrases: names or descriptions of objects.

        Returns:
            [P, hidden]

        Raises:
            QuestionError: a phrase is empty or too long.
        """
        if not phrases:
            return torch.zeros(0, self.hidden, device=self.device)
        for phrase in phrases:
            if not phrase.strip():
                raise QuestionError("a label is empty; name the object to locate")
        pairs = [self._pair(*locate_pair(phrase)) for phrase in phrases]
        packed = pack([prefix.length], [pairs], self.device)
        ids, segments = packed.ids[:, prefix.length :], packed.segments
        with torch.no_grad():
            states = self.llm(
                input_ids=ids,
                attention_mask=attention_mask(segments[:, prefix.length :], segments, self.llm.dtype, False),
                position_ids=packed.positions[:, prefix.length :],
                past_key_values=copy.deepcopy(prefix.cache),
                use_cache=True,
                output_hidden_states=True,
                logits_to_keep=1,
            ).hidden_states[-1]
        return states[ids == self.marks.loc]

    def loc_state(self, prefix: ScenePrefix, phrase: str) -> Tensor:
        """``loc_states`` of one phrase: [hidden]."""
        return self.loc_states(prefix, [phrase])[0]

    def loss(
        self,
        scenes: Sequence[SceneTokens],
        conversations: Sequence[Sequence[tuple[str, str]]],
        blind: bool = False,
        balanced: bool = False,
    ) -> LanguageLoss:
        """Cross-entropy of the answers, all pairs of a scene packed behind one reading of it.

        Args:
            scenes: B scenes.
            conversations: for each scene its (question, answer) pairs, which do not see each other; ``<LOC>`` in an
                answer is the mark.
            blind: train or measure the baseline that sees no scene.
            balanced: every answer counts the same. Without it every token does, and a dozen digits of coordinates drown
                the one token of a "yes".

        Raises:
            QuestionError: a question is empty or too long.
            ValueError: no pairs at all, or not one conversation for each scene.
        """
        if len(scenes) != len(conversations) or not any(conversations):
            raise ValueError(
                f"{len(scenes)} scenes and {len(conversations)} conversations; give one, with pairs, to each"
            )
        prefixes = [self._prefix_embeddings(scene, blind) for scene in scenes]
        pairs = [[self._pair(question, answer) for question, answer in row] for row in conversations]
        packed = pack([len(prefix) for prefix in prefixes], pairs, self.device)
        text = self._embed(packed.ids)
        embeddings = torch.stack(
            [torch.cat([prefix, row[len(prefix) :]]) for prefix, row in zip(prefixes, text, strict=True)]
        )
        mask = attention_mask(packed.segments, packed.segments, embeddings.dtype, self.config.scene_attention == "full")
        # Only the columns in which some scene has an answer need the wide vocabulary layer.
        columns = (packed.targets >= 0).any(dim=0).nonzero().squeeze(1)
        result = self.llm(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=packed.positions,
            use_cache=False,
            output_hidden_states=True,
            logits_to_keep=columns,
        )
        targets = packed.targets[:, columns]
        wanted = targets >= 0
        logits, targets = result.logits[wanted].float(), targets[wanted]
        losses = nn.functional.cross_entropy(logits, targets, reduction="none")
        if balanced:
            rows = torch.arange(len(scenes), device=self.device).unsqueeze(1)
            answers = packed.segments[:, columns] + packed.segments.max() * rows  # one number for each answer
            _, owner, lengths = answers[wanted].unique(return_inverse=True, return_counts=True)
            losses = losses / lengths[owner] * (len(losses) / len(lengths))
        return LanguageLoss(
            loss=losses.mean(),
            token_count=len(targets),
            correct=float((logits.argmax(-1) == targets).float().mean()),
            loc_states=self._gather_loc(result.hidden_states[-1], packed.ids, packed.segments, pairs),
        )

    def _gather_loc(
        self, states: Tensor, ids: Tensor, segments: Tensor, pairs: list[list[Pair]]
    ) -> list[list[Tensor | None]]:
        found: list[list[Tensor | None]] = [[None] * len(row) for row in pairs]
        for row, column in ((ids == self.marks.loc) & (segments > PREFIX)).nonzero().tolist():
            pair = int(segments[row, column]) - 1
            if found[row][pair] is None:
                found[row][pair] = states[row, column]
        return found

    def _embed(self, ids: Tensor) -> Tensor:
        table = self.llm.get_input_embeddings()
        assert isinstance(table, nn.Module)
        return table(ids)

    def _prefix_embeddings(self, scene: SceneTokens, blind: bool) -> Tensor:
        """Embeds a scene between its marks: [T + marks, hidden]."""
        embed = self._embed
        start = embed(torch.tensor(self.marks.start, device=self.device))
        end = embed(torch.tensor([self.marks.scene_end], device=self.device))
        features = scene.features[:0] if blind else scene.features
        dtype = next(self.projector.parameters()).dtype
        tokens = self.projector(features.to(dtype)).to(start.dtype)
        return torch.cat([start, tokens, end])

    def _question_ids(self, question: str) -> list[int]:
        if not question.strip():
            raise QuestionError("the question is empty")
        limit = self.config.max_question_tokens
        # A token is at least one byte of text for every tokenizer in use, and none spans more than a few dozen
        # characters: text far beyond the limit is refused before the effort of reading it.
        ids = [] if len(question) > 64 * limit else encode_text(self.tokenizer, question.strip())
        if not 0 < len(ids) <= limit:
            size = f"{len(ids)} tokens" if ids else f"{len(question)} characters"
            raise QuestionError(f"the question has {size}; at most {limit} tokens are read: shorten it")
        return [self.marks.user, *ids, self.marks.assistant]

    def _pair(self, question: str, answer: str) -> Pair:
        ids = encode_answer(self.tokenizer, answer)
        return Pair(tuple(self._question_ids(question)), (*ids, self.marks.eos))
