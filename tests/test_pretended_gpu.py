"""The pretended GPU computes like the CPU and refuses what a real GPU refuses: else tests on it would say nothing."""

import pytest
import torch

from tests.pretended_gpu import pretended_gpu


def test_networks_and_tensors_move_there_and_give_the_numbers_of_the_cpu():
    network, x = torch.nn.Linear(3, 2), torch.arange(6.0).view(2, 3)
    expected = network(x).detach()
    with pretended_gpu(), torch.inference_mode():
        found = network.to("cuda")(x.to("cuda"))
        assert found.device == network.weight.device == torch.device("cuda", 0)
        assert torch.equal(found.cpu(), expected)
        assert torch.tensor([1, 2], device="cuda").device == torch.zeros(2, device="cuda").device == found.device


MEETINGS = {
    "network": lambda gpu, cpu: torch.nn.Linear(3, 2)(gpu),
    "sum": lambda gpu, cpu: gpu + cpu,
    "cat": lambda gpu, cpu: torch.cat([gpu, cpu]),
    "index of the GPU's": lambda gpu, cpu: cpu[gpu.long()],
    "filled": lambda gpu, cpu: gpu.index_put_((torch.tensor([0]),), cpu[:1]),
    "numpy": lambda gpu, cpu: gpu.numpy(),
    "generator": lambda gpu, cpu: torch.randn(2, device="cuda", generator=torch.Generator()),
}


@pytest.mark.parametrize("meeting", MEETINGS.values(), ids=MEETINGS.keys())
def test_what_a_gpu_refuses_is_refused(meeting):
    with pretended_gpu(), torch.inference_mode(), pytest.raises((RuntimeError, TypeError), match="cuda"):
        meeting(torch.zeros(3, device="cuda"), torch.zeros(3))


def test_what_a_gpu_takes_from_the_cpu_is_taken():
    with pretended_gpu():
        gpu = torch.arange(3.0, device="cuda")
        assert (gpu * torch.tensor(2.0)).tolist() == [0, 2, 4]
        assert gpu[torch.tensor([2, 0])].tolist() == [2, 0]
        assert gpu[1].item() == 1


def test_nothing_of_it_is_left_behind():
    before = torch.cuda.is_available()
    with pytest.raises(RuntimeError, match="inside"), pretended_gpu():
        raise RuntimeError("inside")
    assert torch.cuda.is_available() == before
    assert type(torch.nn.Linear(2, 2).to("cpu").weight) is torch.nn.Parameter
