"""Dropout from 16-bit lanes: how much it keeps, what it scales, and that its numbers are independent."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from workloads.models.dropout import Dropout

COUNT = 400_000


def mask_of(p: float, shape: tuple[int, ...] = (COUNT,), seed: int = 0) -> Tensor:
    """True where an element was kept."""
    torch.manual_seed(seed)
    dropped: Tensor = Dropout(p)(torch.ones(shape))
    return dropped != 0


@pytest.mark.parametrize("p", [0.001, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_the_kept_share_is_1_minus_p_in_every_lane(p: float) -> None:
    kept = mask_of(p).view(-1, 4).double()
    # Of N draws the share is known to sqrt(p(1 - p)/N).
    sigma = math.sqrt(p * (1 - p) / COUNT)
    assert abs(kept.mean().item() - (1 - p)) < 5 * sigma
    assert (kept.mean(0) - (1 - p)).abs().max() < 5 * 2 * sigma


@pytest.mark.parametrize("p", [0.1, 0.3, 1 - 2**-16])
def test_what_is_kept_is_divided_by_the_very_share_that_is_kept(p: float) -> None:
    torch.manual_seed(0)
    share = round((1 - p) * 65536) / 65536
    out = Dropout(p)(torch.full((COUNT,), 3.0, dtype=torch.float64))
    kept = out[out != 0]
    assert len(kept) > 0
    # Two roundings in float64.
    assert torch.allclose(kept, torch.full_like(kept, 3.0 / share), rtol=1e-15)


def test_the_threshold_lies_between_the_right_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all 65536 lanes once, exactly the share that is meant is kept."""
    every = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.int64)
    monkeypatch.setattr(Tensor, "random_", lambda self, low, high: self.copy_(every))
    for p in (0.3, 0.5, 1 / 65536, 65535 / 65536):
        kept = int((Dropout(p)(torch.ones(65536)) != 0).sum())
        assert kept == round((1 - p) * 65536)


def test_lanes_are_independent_of_their_neighbours() -> None:
    kept = mask_of(0.3).double() - 0.7
    for distance in (1, 2, 3, 4, 8):
        correlation = (kept[distance:] * kept[:-distance]).mean() / 0.21
        # Of N independent pairs the correlation is known to 1/sqrt(N).
        assert abs(correlation.item()) < 5 / math.sqrt(COUNT)


def test_the_seed_decides_the_mask_and_the_generator_moves_on() -> None:
    assert torch.equal(mask_of(0.5, seed=1), mask_of(0.5, seed=1))
    assert not torch.equal(mask_of(0.5, seed=1), mask_of(0.5, seed=2))
    torch.manual_seed(1)
    layer, x = Dropout(0.5), torch.ones(64)
    assert not torch.equal(layer(x), layer(x))


def test_nothing_happens_in_evaluation_or_at_p_0_and_nothing_is_left_at_p_1() -> None:
    x = torch.randn(3, 5)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    # Nearer to 0 than a lane can tell: kept whole, not by 65536 of 65536 lanes that int16 cannot compare.
    assert torch.equal(Dropout(1e-6)(x), x)
    x.requires_grad_()
    gone = Dropout(1.0)(x)
    gone.sum().backward()
    assert torch.equal(gone, torch.zeros(3, 5))
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros(3, 5))
    assert torch.equal(Dropout(1 - 1e-6)(torch.ones(9)), torch.zeros(9))


def test_the_gradient_passes_where_the_element_was_kept_with_the_same_factor() -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 30, dtype=torch.float64, requires_grad=True)
    out = Dropout(0.3)(x)
    weights = torch.randn(40, 30, dtype=torch.float64)
    (out * weights).sum().backward()
    assert x.grad is not None
    # Products of the same numbers in another order.
    assert torch.allclose(x.grad, weights * (out / x).detach(), rtol=1e-12)


@pytest.mark.parametrize("shape", [(), (0, 4), (1,), (3,), (5, 7), (2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 2, 2)])
def test_any_shape_is_kept(shape: tuple[int, ...]) -> None:
    assert Dropout(0.5)(torch.ones(shape)).shape == shape


def test_the_memory_format_is_kept_and_views_are_read_in_their_shape() -> None:
    x = torch.randn(2, 3, 4, 5)
    last = x.contiguous(memory_format=torch.channels_last)
    out = Dropout(0.5)(last)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert Dropout(0.5)(x).is_contiguous()
    for value, dropped in ((x, out), (x.transpose(1, 3), Dropout(0.5)(x.transpose(1, 3)))):
        kept = dropped != 0
        assert 0 < kept.sum() < kept.numel()
        assert torch.equal(dropped[kept], 2 * value[kept])


def test_the_mask_follows_the_order_in_memory() -> None:
    last = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    torch.manual_seed(0)
    out = Dropout(0.5)(last).permute(0, 2, 3, 1)
    torch.manual_seed(0)
    assert torch.equal(out, Dropout(0.5)(last.permute(0, 2, 3, 1)))


def test_bfloat16_stays_bfloat16_and_its_mean_is_not_shifted() -> None:
    torch.manual_seed(0)
    x = 1 + torch.rand(COUNT)
    out = Dropout(0.3)(x.bfloat16())
    assert out.dtype == torch.bfloat16
    kept = out != 0
    ratio = (out.double()[kept] / x.double()[kept]).mean().item() * 0.7
    # A factor that is itself rounded to bfloat16 would be off by 8e-4; roundings of 280,000 elements, each up
    # to 2^-8 and independent of sign, leave about 5e-6.
    assert ratio == pytest.approx(round(0.7 * 65536) ** -1 * 65536 * 0.7, abs=5e-5)


def test_autocast_and_compilation_do_not_disturb_it() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Dropout(0.5), nn.Conv2d(4, 2, 3))
    x = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    # Traced without generating code, which takes long.
    compiled = torch.compile(Dropout(0.5), backend="aot_eager")
    kept = compiled(torch.ones(COUNT, requires_grad=True))
    assert set(kept.detach().unique().tolist()) == {0.0, 2.0}
    kept.sum().backward()


def test_other_devices_get_torchs_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, bool]] = []

    def dropout(x: Tensor, p: float, training: bool) -> Tensor:
        seen.append((p, training))
        return x

    monkeypatch.setattr("torch.nn.functional.dropout", dropout)
    Dropout(0.3)(torch.ones(4, device="meta"))
    Dropout(0.3).eval()(torch.ones(4, device="meta"))
    Dropout(0.3)(torch.ones(4))
    assert seen == [(0.3, True), (0.3, False)]


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan, math.inf, True, "0.5", None])
def test_what_is_no_probability_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match=r"dropout: p must be in 0\.\.1; got "):
        Dropout(p)
