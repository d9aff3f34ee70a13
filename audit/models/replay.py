"""Reuses outputs of a network that would be computed again from equal inputs.

An arm that acts only from step w on calls the denoiser w times on what the baseline arm gave it. The pipeline and its
scheduler run as published; only the denoiser's forward returns what it returned before. So images are equal bit for
bit, whatever the scheduler does with the predictions.

An asymmetric step calls the denoiser twice on one input, with the edit and without it. What lies in front of the first
edited module gives the same output in both calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from audit.models.intervention import Intervention


class SharedSteps:
    """The denoiser's outputs in the first steps of one batch, before any arm acts.

    Valid for the arms of one batch: the same texts, seeds, rows, and sampling.

    Args:
        steps: How many steps are kept; 0 keeps nothing.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._kept: dict[tuple[int, int], Any] = {}

    def find(self, step: int, call: int) -> Any | None:  # noqa: ANN401 - what a denoiser returns
        """Return a copy of the output of a call, counted from 0 in its step; None if it is not kept."""
        kept = self._kept.get((step, call))
        return None if kept is None else _copied(kept)

    def keep(self, step: int, call: int, output: Any) -> None:  # noqa: ANN401 - what a denoiser returns
        """Keep a copy of the output of a call."""
        if step < self._steps:
            self._kept[step, call] = _copied(output)

    @classmethod
    def of(cls, interventions: Sequence[Intervention], steps: int) -> SharedSteps:
        """Return an empty one for the arms of a batch.

        Args:
            interventions: Of all arms but the baseline.
            steps: Of an image.
        """
        return cls(max((int(min(shared_steps(one), steps)) for one in interventions), default=0))


def shared_steps(intervention: Intervention | None) -> float:
    """Return how many steps, from the first on, an arm has in common with the baseline; infinity for all."""
    if intervention is None:
        return float("inf")
    return min(map(_unchanged_steps, intervention.parts))


def _unchanged_steps(intervention: Intervention) -> float:
    if any(one is not None for one in (intervention.texts, intervention.embeddings, intervention.encoders)):
        return 0
    return intervention.window.start if intervention.window else float("inf")


class FrontOutputs:
    """The outputs of a denoiser's top-level modules in one call, up to the first edit of it.

    The output of the edited module is kept as it was before the edit. Outputs are not copied: diffusers' models do not
    change in place what a module returned.

    Args:
        denoiser: Whose blocks are watched: its children, and the members of its lists of modules.
    """

    def __init__(self, denoiser: nn.Module) -> None:
        self._modules = tuple(_top_level(denoiser))
        self._outputs: dict[nn.Module, list[Any]] = {}
        self._is_open = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the modules while the block runs."""
        with ExitStack() as held:
            for module in self._modules:
                # Before the hooks of edits, so that the output is the module's own.
                held.callback(module.register_forward_hook(self._keep, prepend=True).remove)
            held.callback(self._outputs.clear)
            yield

    def begin(self) -> None:
        """Keep outputs from now on."""
        self._outputs.clear()
        self._is_open = True

    def close(self) -> None:
        """Keep no further output: from here on the edit acts."""
        self._is_open = False

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Let the modules return what was kept while the block runs, and forget it then."""
        self.close()
        with ExitStack() as held:
            held.callback(self._outputs.clear)
            for module, outputs in self._outputs.items():
                held.enter_context(forward_through(module, partial(_next_of, iter(outputs))))
            yield

    def _keep(self, module: nn.Module, _inputs: object, output: object) -> None:
        if self._is_open:
            self._outputs.setdefault(module, []).append(output)


def _top_level(network: nn.Module) -> Iterator[nn.Module]:
    for child in network.children():
        yield from child if isinstance(child, nn.ModuleList) else (child,)


def _next_of(kept: Iterator[Any], own: Callable[..., Any], *inputs: Any, **named: Any) -> Any:  # noqa: ANN401
    """Return the next kept output; a module that is called again behind the edit computes."""
    for output in kept:
        return output
    return own(*inputs, **named)


@contextmanager
def forward_through(network: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let ``forward(own, …)`` answer the calls of a network while the block runs; hooks on it run as ever.

    Args:
        network: Whose ``forward`` is borrowed.
        forward: Is given the network's own ``forward`` first, and then the arguments of the call.
    """
    own, is_patched = network.forward, "forward" in vars(network)
    network.forward = lambda *inputs, **named: forward(own, *inputs, **named)
    try:
        yield
    finally:
        if is_patched:  # for example by accelerate
            network.forward = own
        else:
            del network.forward


def _copied(output: Any) -> Any:  # noqa: ANN401 - what a denoiser returns
    """Copy an output, which the pipeline may change in place: a tensor, a tuple, or an output class of diffusers."""
    if isinstance(output, Tensor):
        return output.clone()
    if isinstance(output, tuple):
        return tuple(map(_copied, output))
    return type(output)(**{name: _copied(value) for name, value in output.items()})
