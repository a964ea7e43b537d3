import pytest
import torch
from dyncity_models.diffusion.guidance import GuidanceChain

NAMES = ("continuation", "plan", "command")


@pytest.mark.parametrize(
    ("scales", "prefixes", "weights"),
    [
        ({}, (NAMES,), (1.0,)),
        (dict.fromkeys(NAMES, 4.0), ((), NAMES), (-3.0, 4.0)),
        ({"plan": 4.0, "command": 4.0}, (("continuation",), NAMES), (-3.0, 4.0)),
        ({"plan": 3.0, "command": 2.0}, (NAMES[:1], NAMES[:2], NAMES), (-2.0, 1.0, 2.0)),
        ({"command": 0.0}, (NAMES[:2],), (1.0,)),
        (dict.fromkeys(NAMES, 0.0), ((),), (1.0,)),
    ],
)
def test_only_prefixes_that_weigh_something_are_evaluated(scales, prefixes, weights):
    chain = GuidanceChain.of(NAMES, scales)
    assert (chain.prefixes, chain.weights) == (prefixes, weights)


def test_without_conditions_the_network_is_asked_once():
    assert GuidanceChain.of((), {"plan": 7.0}) == GuidanceChain(((),), (1.0,))


def test_the_weighted_sum_is_the_chain_of_pushes():
    scales = {"continuation": 1.5, "plan": 4.0, "command": 0.5}
    chain = GuidanceChain.of(NAMES, scales)
    answer = {NAMES[:n]: torch.randn(2, 5, generator=torch.Generator().manual_seed(n)).double() for n in range(4)}
    expected = answer[()]
    for number, name in enumerate(NAMES):
        expected = expected + scales[name] * (answer[NAMES[: number + 1]] - answer[NAMES[:number]])
    found = chain.weighed(torch.cat([answer[prefix] for prefix in chain.prefixes]))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_batch_is_repeated_in_the_order_that_is_weighed():
    chain = GuidanceChain.of(("plan",), {"plan": 2.0})
    batch = torch.tensor([[1.0], [10.0]])
    assert torch.equal(chain.repeated(batch), torch.tensor([[1.0], [10.0], [1.0], [10.0]]))
    assert torch.equal(chain.weighed(chain.repeated(batch)), batch)
