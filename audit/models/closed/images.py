"""Pictures that exist already: a folder per prompt, or a manifest, see :mod:`audit.planning.pictures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from audit.config.sections import ModelConfig
from audit.models.closed.interface import PictureBatch, Pixels, batches_by_size, pixel_seed, within
from audit.planning.pictures import Picture, picture_groups
from audit.records.work import Prompt
from audit.storage.outside.picture import READING, PictureError, read_picture


class PictureFiles:
    """Reads pictures from files.

    Args:
        model: Section ``model`` with ``source: images``.
    """

    def __init__(self, model: ModelConfig) -> None:
        groups = picture_groups(model)
        self._pictures = {group.occupation: group.pictures for group in groups}
        self._longest_side = model.longest_side
        every = [picture for group in groups for picture in group.pictures]
        self.sampling: Mapping[str, Any] = {
            "pictures": len(every),
            "known_seeds": sum(picture.seed is not None for picture in every),
            "known_texts": sum(group.text is not None for group in groups),
            "read_as": READING,
            "resize": f"lanczos, aspect ratio kept, only above {model.longest_side} pixels a side",
        }

    def batches(self, prompt: Prompt, indices: Sequence[int]) -> tuple[PictureBatch, ...]:
        """Read the pictures of a prompt.

        Raises:
            ValueError: A picture cannot be read.
        """
        own = self._pictures[prompt.occupation]
        return batches_by_size({index: self._read(own[index]) for index in indices})

    def _read(self, picture: Picture) -> tuple[Pixels, int]:
        try:
            pixels = within(read_picture(picture.path), self._longest_side)
        except (PictureError, OSError) as error:
            raise ValueError(f"{picture.path}: expected a picture that can be read: {error}") from error
        return pixels, pixel_seed(pixels) if picture.seed is None else picture.seed
