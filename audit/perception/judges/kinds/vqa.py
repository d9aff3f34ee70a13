"""A judge that answers questions: BLIP for visual question answering (Li et al. 2022), with a closed set of answers.

Each answer text is scored by the log-probability that the decoder assigns to its tokens, given image and question, as
in the evaluation of BLIP with a list of candidate answers; the end of the answer is scored with it. The probabilities
of the groups are the softmax of the scores over the answers of a question. They compare the given answers only: an
image that fits none of them still gets one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audit.config.judges import JudgeKeys, VqaConfig
from audit.config.problems import Problem
from audit.config.sections import ModelConfig
from audit.models.files.untrusted_model import UnfitModelError, UntrustedModelError
from audit.perception.judges.answers import Answers, audited_columns
from audit.perception.judges.interface import Asked, Audited, Judge
from audit.perception.judges.kinds.blip_directory import (
    answer_tokens,
    blip_directory,
    check_blip,
    load_blip,
    load_processor,
)
from audit.perception.judges.perceived import Perceived, perceived
from audit.perception.preparation import as_pictures
from audit.storage.provenance import short_fingerprint

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from audit.perception.embedders.clip import ClipEmbedder

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class VqaJudge:
    """BLIP as a judge: one question for each attribute, one answer text for each group.

    It does not detect faces: every picture that it is shown is classified.

    Args:
        directory: Directory of the model.
        settings: Questions, answers and how answers are scored.
        attributes: Attribute → audited groups.
        min_confidence: An image has low confidence if the probability of its most probable group is below this.
        device: Device for the computation.
    """

    def __init__(
        self,
        directory: Path,
        settings: VqaConfig,
        attributes: Audited,
        min_confidence: float,
        device: torch.device | str = "cpu",
    ) -> None:
        check_blip(directory)
        self._audited = audited_columns(Vqa.name, _answers(settings), attributes)
        self._processor = load_processor(directory)
        tokenizer = self._processor.tokenizer
        asked = [name for name in settings.questions if name in attributes]
        self._answers = {name: list(answer_tokens(tokenizer, name, settings).values()) for name in asked}
        self._questions = {name: tokenizer(settings.questions[name].question).input_ids for name in self._answers}
        self._network = load_blip(directory).eval().to(device)
        self._device = device
        self._mean = settings.score == "mean"
        self._min_confidence = min_confidence
        named = f"{directory.name}:{short_fingerprint(directory)}|questions:{_digest(settings)}|score:{settings.score}"
        self.signature = f"judge:blip-vqa:{named}|resize:blip-processor|min_confidence:{min_confidence}"

    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge uint8 images ``(n, 3, H, W)``; the occupation is not used."""
        import torch

        with torch.inference_mode():
            pixels = self._processor.image_processor(list(as_pictures(images)), return_tensors="pt").pixel_values
            seen = self._network.vision_model(pixel_values=pixels.to(self._device)).last_hidden_state
            shares = {name: self.scores(seen, name).softmax(1).cpu().numpy() for name in self._answers}
        return perceived(shares, self._audited, self._min_confidence)

    def scores(self, seen: Tensor, attribute: str) -> Tensor:
        """Return the score of every answer to a question, in the order of the config.

        Args:
            seen: Output of the vision model, ``(n, patches, d)``.
            attribute: The attribute that is asked for.

        Returns:
            Sums of log-probabilities ``(n, answers)``, or their means over the tokens, the end included.
        """
        import torch

        question = torch.tensor([self._questions[attribute]] * len(seen), device=seen.device)
        asked = self._network.text_encoder(
            input_ids=question,
            attention_mask=torch.ones_like(question),
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device),
        ).last_hidden_state
        return torch.stack([self._score(asked, answer) for answer in self._answers[attribute]], dim=1)

    def _score(self, asked: Tensor, answer: Sequence[int]) -> Tensor:
        """Return the score of one answer ``(n,)``; ``asked`` is the encoded question ``(n, tokens, d)``."""
        import torch

        tokens = torch.tensor(answer, device=asked.device).expand(len(asked), -1)
        start = torch.full_like(tokens[:, :1], self._network.decoder_start_token_id)
        logits = self._network.text_decoder(
            input_ids=torch.cat([start, tokens[:, :-1]], dim=1),
            encoder_hidden_states=asked,
            encoder_attention_mask=torch.ones(asked.shape[:2], dtype=torch.long, device=asked.device),
            use_cache=False,
        ).logits
        each = logits.float().log_softmax(-1).gather(2, tokens[:, :, None])[:, :, 0]
        score: Tensor = each.mean(1) if self._mean else each.sum(1)
        return score


def _answers(settings: VqaConfig) -> Answers:
    return {name: tuple(asked.answers) for name, asked in settings.questions.items()}


def _digest(settings: VqaConfig) -> str:
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12]


class Vqa:
    """A BLIP model that the section ``vqa`` asks."""

    name = "the question answering model"
    word = None
    has_gradients = False

    def is_named_by(self, judge: JudgeKeys) -> bool:
        """Return whether there is a section ``vqa``."""
        return judge.vqa is not None

    def answers(self, asked: Asked) -> Answers | None:
        """Return the groups that have an answer."""
        return _answers(asked.judge.vqa) if asked.judge.vqa is not None else None

    def problems(self, asked: Asked) -> Iterator[Problem]:
        """Find a directory that holds another model, and answers that it cannot score; a hub id is not downloaded."""
        at, source, settings = (*asked.at, "source"), asked.judge.source, asked.judge.vqa
        if settings is None:
            return
        if not Path(source).is_dir():
            if source.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(source):
                message = f"expected a directory of a BLIP model or owner/name on the hub, found {source!r}"
                yield Problem(at, f"{message}; check the path")
            return
        try:
            check_blip(Path(source))
            tokenizer = load_processor(Path(source)).tokenizer
        except (UnfitModelError, UntrustedModelError) as error:
            yield Problem(at, str(error))
            return
        for name in settings.questions:
            try:
                answer_tokens(tokenizer, name, settings)
            except UnfitModelError as error:
                yield Problem((*asked.at, "vqa", "questions", name), str(error), reads=(at,))

    def fingerprint(self, judge: JudgeKeys, model: ModelConfig) -> str:
        """Return the directory and the fingerprint of its files, or the hub id and its revision; and the questions."""
        settings = judge.vqa
        if settings is None:
            return judge.source
        source = Path(judge.source)
        weights = f"{source.name}:{short_fingerprint(source)}" if source.is_dir() else f"{source}@{settings.revision}"
        return f"{weights}:{_digest(settings)}"

    def notes(self, judge: JudgeKeys, attributes: Audited) -> Iterator[str]:
        """State the questions, the answers, and how answers are scored."""
        settings = judge.vqa
        if settings is None:
            return
        for name, asked in settings.questions.items():
            if name in attributes:
                answers = ", ".join(f"“{text}” is {group}" for group, text in asked.answers.items())
                yield f"It is a BLIP model that is asked about {name}: “{asked.question}”; {answers}."
        kind = "means" if settings.score == "mean" else "sums, over answers of equal length,"
        yield (
            f"Probabilities are the softmax over these answers of the {kind} of their tokens' log-probabilities. "
            "An image that fits none of the answers gets one of them."
        )

    def load(self, judge: JudgeKeys, model: ModelConfig, attributes: Audited, clip: ClipEmbedder | None) -> Judge:
        """Load the model, downloading it if ``source`` is a hub id that is not in the cache."""
        from audit.models.device import device_here

        if judge.vqa is None:
            raise UnfitModelError("expected a section vqa, found none; add it")
        directory = blip_directory(judge.source, judge.vqa.revision)
        return VqaJudge(directory, judge.vqa, attributes, judge.min_confidence, device_here())
