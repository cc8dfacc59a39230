"""What the classifier's heads pool from a map."""

import pytest
import torch

from models.classifier import PooledClassifier, PooledMapClassifier, pool

WIDTH = 0.0625
MAPS = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))


def test_a_map_is_pooled_to_averages_and_maxima() -> None:
    torch.testing.assert_close(pool(MAPS), torch.cat([MAPS.mean((2, 3)), MAPS.amax((2, 3))], dim=1))


def test_the_strongest_cells_are_averaged_channel_by_channel() -> None:
    ranked = MAPS.flatten(2).sort(dim=2, descending=True).values

    torch.testing.assert_close(pool(MAPS, 8)[:, 3:], ranked[:, :, :8].mean(2))


def test_a_map_of_fewer_cells_gives_what_it_has() -> None:
    small = MAPS[:, :, :1, :2]

    torch.testing.assert_close(pool(small, 8)[:, 3:], small.mean((2, 3)))


@pytest.mark.parametrize("network", [PooledClassifier, PooledMapClassifier])
def test_every_head_on_pooled_features_pools_as_it_was_built(network: type) -> None:
    torch.manual_seed(1)
    one, eight = network(WIDTH, hidden=8), network(WIDTH, hidden=8, strongest=8)
    eight.load_state_dict(one.state_dict())
    maps = torch.rand(1, 32, 12, 10)

    assert not torch.allclose(one.eval()(maps).logits, eight.eval()(maps).logits, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("strongest", "error"), [(0, ValueError), (-3, ValueError), (1.5, TypeError)])
def test_a_number_of_cells_that_is_none_is_refused(strongest: float, error: type[Exception]) -> None:
    with pytest.raises(error):
        PooledClassifier(WIDTH, hidden=8, strongest=strongest)
