"""LoRA for the language model through peft: low-rank additions learn, pretrained weights stay (Hu et al., 2021)."""

from __future__ import annotations

from peft import LoraConfig, PeftModel, get_peft_model

from vidllm_ros.model.reasoning.language import LanguageModel


def add_lora(language: LanguageModel, rank: int) -> None:
    """Freeze the language model but for an addition of ``rank`` to each matrix of its layers.

    The conversation marks are new to a pretrained model, so their rows of the embedding, and of an output layer of its
    own, learn as well; the projector is not part of the language model and learns as before.

    Args:
        language: its ``llm`` is wrapped in place, until ``merge_lora``.
        rank: r; the additions are scaled by 2.

    """
    marks = language.marks
    rows = sorted({*marks.start, marks.scene_end, marks.user, marks.assistant, marks.loc, marks.eos})
    names = {module: name for name, module in language.llm.named_modules()}
    tables = [names[language.llm.get_input_embeddings()]]
    if not language.llm.config.tie_word_embeddings:
        tables.append(names[language.llm.get_output_embeddings()])
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        trainable_token_indices=dict.fromkeys(tables, rows),
        task_type="CAUSAL_LM",
    )
    language.llm = get_peft_model(language.llm, config)


def merge_lora(language: LanguageModel) -> None:
    """Add what was learned to the weights themselves, so that the network is an ordinary one again."""
    if isinstance(language.llm, PeftModel):
        language.llm = language.llm.merge_and_unload()
