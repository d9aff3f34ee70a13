"""A borrowed module comes back: hooks replace its output inside the block and are gone after it, always."""

import pytest
import torch
from torch import nn

from audit.models.hooks import edit_output, edit_place


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


@pytest.mark.parametrize("tokens", [False, True])
def test_equal_values_in_another_layout_change_no_bit_behind_them(tokens):
    """Kernels add in an order that depends on the layout: a map that was recorded and stacked again has another one."""
    torch.random.default_generator.manual_seed(0)
    block = nn.Linear(64, 512) if tokens else nn.Conv2d(64, 128, 1).to(memory_format=torch.channels_last)
    own = torch.randn(6, 16, 64) if tokens else torch.randn(6, 64, 8, 8).to(memory_format=torch.channels_last)
    before = block(own)
    with edit_output(block, lambda h: torch.stack([*h.contiguous()])):
        after = block(own)
    assert torch.equal(after, before)
    assert after.stride() == before.stride()


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


class Down(nn.Module):
    """A down block as diffusers has it: it returns its output also as the last skip connection."""

    def forward(self, x, encoder_hidden_states=None):
        first = x + 1
        second = first.mean((2, 3), keepdim=True) if encoder_hidden_states is None else encoder_hidden_states
        return second, (first, second)


@pytest.mark.parametrize(
    ("kind", "changed"), [("result", (1, 0, 1)), ("output", (1, 0, 0)), ("skips", (0, 1, 1)), ("text", (1, 0, 1))]
)
def test_a_place_is_changed_alone(x, kind, changed):
    down, text = Down(), torch.ones(3, 4, 5)
    named = {"encoder_hidden_states": text} if kind == "text" else {}
    plain, (first, second) = down(x, **named)
    with edit_place(down, kind, lambda h: h + 1):
        edited, (one, two) = down(x, **named)
    pairs = ((edited, plain), (one, first), (two, second))
    assert tuple(int(not torch.equal(*pair)) for pair in pairs) == changed
    assert all(torch.equal(after, before + 1) for (after, before), does in zip(pairs, changed, strict=True) if does)


@pytest.mark.parametrize("kind", ["result", "output", "skips", "text"])
def test_a_place_is_given_back_bit_for_bit_and_after_an_exception(x, kind):
    down, text = Down(), torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(2))
    named = {"encoder_hidden_states": text} if kind == "text" else {}

    def values():
        h, skips = down(x, **named)
        return (h, *skips)

    plain = values()
    with edit_place(down, kind, lambda h: h.clone()):
        assert all(torch.equal(*pair) for pair in zip(values(), plain, strict=True))
    with edit_place(down, kind, lambda h: h + 1):
        assert not all(torch.equal(*pair) for pair in zip(values(), plain, strict=True))
    with pytest.raises(RuntimeError, match="inside"), edit_place(down, kind, lambda h: h + 1):
        raise RuntimeError("inside")
    assert all(torch.equal(*pair) for pair in zip(values(), plain, strict=True))


@pytest.mark.parametrize("named", [False, True])
def test_what_a_module_reads_first_is_changed_and_given_back_after_an_exception(block, x, named):
    class Reader(nn.Module):
        def forward(self, hidden_states, other=0):
            return block(hidden_states) + other

    reader, call = Reader(), {"hidden_states": x} if named else {}
    inputs = () if named else (x,)
    plain = reader(*inputs, **call, other=1)
    with edit_place(reader, "input", lambda h: h):
        assert torch.equal(reader(*inputs, **call, other=1), plain)
    with edit_place(reader, "input", lambda h: h * 2):
        assert torch.equal(reader(*inputs, **call, other=1), block(x * 2) + 1)
    with pytest.raises(RuntimeError, match="inside"), edit_place(reader, "input", lambda h: h * 2):
        raise RuntimeError("inside")
    assert torch.equal(reader(*inputs, **call, other=1), plain)


class Hidden(nn.Module):
    """A block with cross-attention: what it reads of a text depends on a mask."""

    def forward(self, hidden_states, attention_mask=None, encoder_hidden_states=None, encoder_attention_mask=None):
        assert attention_mask is None, "of the block's own tokens"
        mask = torch.zeros(1, 1, 1) if encoder_attention_mask is None else encoder_attention_mask
        return hidden_states + mask.transpose(1, 2).softmax(1).mul(encoder_hidden_states).sum(1, keepdim=True)


def test_what_hides_tokens_of_a_text_is_given_as_a_map_also_where_there_is_none():
    block, h, text, seen = Hidden(), torch.randn(2, 3, 4), torch.randn(2, 5, 4), []
    mask = torch.tensor([[0.0, 0.0, -10_000.0, -10_000.0, -10_000.0]]).expand(2, 5)[:, None]
    calls = [((h, None, text), {}), ((h,), {"encoder_hidden_states": text, "encoder_attention_mask": mask})]
    for inputs, named in calls:
        plain = block(*inputs, **named)
        with edit_place(block, "text-mask", lambda own: seen.append(own.squeeze((2, 3))) or own):
            assert torch.equal(block(*inputs, **named), plain)
        with edit_place(block, "text-mask", lambda _own: mask.transpose(1, 2)[..., None]):
            torch.testing.assert_close(block(*inputs, **named), h + text[:, :2].mean(1, keepdim=True))
        with pytest.raises(RuntimeError), edit_place(block, "text-mask", torch.ones_like):
            raise RuntimeError
        assert torch.equal(block(*inputs, **named), plain)
    assert torch.equal(seen[0], torch.zeros(2, 5))
    assert torch.equal(seen[1], mask[:, 0])
    with pytest.raises(TypeError, match="must read text"), edit_place(block, "text-mask", lambda own: own):
        block(h)


def test_tokens_that_a_module_reads_are_given_as_a_map():
    linear, tokens, seen = nn.Linear(5, 2), torch.randn(3, 4, 5), []
    with edit_place(linear, "input", lambda h: seen.append(tuple(h.shape)) or h + 1):
        assert torch.equal(linear(tokens), nn.functional.linear(tokens + 1, linear.weight, linear.bias))
    assert seen == [(3, 5, 4, 1)]


def test_skips_are_given_as_one_map(x):
    seen, down = [], Down()
    with edit_place(down, "skips", lambda h: seen.append(tuple(h.shape)) or h):
        down(x)
    assert seen == [(3, 2 * 4 * 4 + 2, 1, 1)]


def test_a_module_without_such_a_place_is_refused_in_words(block, x):
    with pytest.raises(TypeError, match="skip connections"), edit_place(block, "skips", lambda h: h):
        block(x)
    with pytest.raises(TypeError, match="two streams"), edit_place(block, "text-stream", lambda h: h):
        pass
    with pytest.raises(TypeError, match="must read text"), edit_place(block, "text", lambda h: h):
        block(x)
    with pytest.raises(TypeError, match="must read a tensor"), edit_place(block, "input", lambda h: h):
        block(None)
    down = Down()
    with pytest.raises(ValueError, match="keep the shape"), edit_place(down, "skips", lambda h: h[:, :1]):
        down(x)
