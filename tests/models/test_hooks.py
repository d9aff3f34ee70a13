"""A borrowed module comes back: hooks replace its output inside the block and are gone after it, always."""

import pytest
import torch
from torch import nn

from audit.models.hooks import edit_output


class TupleBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(2, 2, 1)

    def forward(self, x):
        return self.inner(x), "residuals"


@pytest.fixture
def block():
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        return nn.Conv2d(2, 2, 1).requires_grad_(False)


@pytest.fixture
def x():
    return torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))


def test_an_edit_sees_every_forward(block, x):
    seen, before = [], [block(x), block(2 * x)]
    with edit_output(block, lambda h: seen.append(h) or h):
        block(x), block(2 * x)
    assert all(torch.equal(a, b) for a, b in zip(seen, before, strict=True))


def test_edit_output_is_gone_after_an_exception(block, x):
    before = block(x)
    with edit_output(block, lambda h: 2 * h):
        assert torch.equal(block(x), 2 * before)
    with pytest.raises(RuntimeError, match="inside"), edit_output(block, lambda h: 2 * h):
        raise RuntimeError("inside")
    assert torch.equal(block(x), before)


def test_edit_output_is_gone_after_the_edit_itself_raises(block, x):
    def broken(_map):
        raise RuntimeError("in the edit")

    before = block(x)
    with pytest.raises(RuntimeError, match="in the edit"), edit_output(block, broken):
        block(x)
    assert torch.equal(block(x), before)
    assert not block._forward_hooks


def test_neutral_edit_is_bit_identical(block, x):
    before = block(x)
    with edit_output(block, lambda h: h):
        assert torch.equal(block(x), before)


def test_tuple_outputs_keep_their_other_elements(x):
    block = TupleBlock()
    plain, _ = block(x)
    with edit_output(block, lambda h: h + 1):
        edited, rest = block(x)
    assert torch.equal(edited, plain + 1)
    assert rest == "residuals"


def test_an_edit_that_changes_the_shape_is_refused(block, x):
    with pytest.raises(ValueError, match=r"expected .* found"), edit_output(block, lambda h: h[:1]):
        block(x)


def test_a_hookpoint_without_a_map_is_refused(x):
    class Named(nn.Module):
        def forward(self, x):
            return {"sample": x}

    named = Named()
    with pytest.raises(TypeError, match="mid_block"), edit_output(named, lambda h: h):
        named(x)
