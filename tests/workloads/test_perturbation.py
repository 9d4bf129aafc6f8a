"""ODIN and the GODIN score against pytorch-ood and against loops written from the formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pytorch_ood.detector import ODIN
from torch import Tensor, nn

from workloads.evaluation import perturbation
from workloads.evaluation.ood import rejection_metrics
from workloads.evaluation.perturbation import godin, odin, tune_godin, tune_odin

STD = (0.2, 0.25, 0.31)
MEAN = (0.48, 0.5, 0.45)
ONES = (1.0, 1.0, 1.0)
CANDIDATES = (0.0, 0.0025, 0.01, 0.04)

Logits = Callable[[Tensor], Tensor]


def _channels(values: tuple[float, ...], dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, dtype=dtype).reshape(1, -1, 1, 1)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 4 * 4, 5)
    )
    return layers.double().eval()


@pytest.fixture
def logits(network: nn.Module) -> Logits:
    def answer(pixels: Tensor) -> Tensor:
        assert pixels.dtype == torch.float32
        normalised = (pixels.double() - _channels(MEAN, torch.float64)) / _channels(STD, torch.float64)
        Z: Tensor = 3.0 * network(normalised)
        return Z

    return answer


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (23, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


class _Recorder:
    """A model that keeps the pixels it was shown."""

    def __init__(self, logits: Logits) -> None:
        self.logits = logits
        self.shown: list[Tensor] = []

    def __call__(self, pixels: Tensor) -> Tensor:
        self.shown.append(pixels.detach().clone())
        return self.logits(pixels)


def _pytorch_ood(network: nn.Module, images: Tensor, epsilon: float, norm_std: list[float] | None) -> Any:
    """The score -log(1 - p) of the library's p, on normalised images."""
    thrice = nn.Linear(5, 5, bias=False).double()
    with torch.no_grad():
        thrice.weight.copy_(3.0 * torch.eye(5))
    scaled = nn.Sequential(network, thrice).eval()
    inputs = (images.double() / 255.0 - _channels(MEAN, torch.float64)) / _channels(STD, torch.float64)
    detector = ODIN(scaled, eps=epsilon, temperature=1000.0, norm_std=norm_std)
    return -np.log1p(detector.predict(inputs).numpy())


# Pixels are float32 here and float64 in the library: 6e-8 in a pixel is at most 1e-8 in a score at T = 1000.
TOLERANCE = 1e-8


def test_odin_agrees_with_pytorch_ood_where_both_step_in_normalised_space(
    network: nn.Module, logits: Logits, images: Tensor
) -> None:
    expected = _pytorch_ood(network, images, 0.05, None)
    np.testing.assert_allclose(odin(logits, images, epsilon=0.05, std=STD), expected, atol=TOLERANCE, rtol=0)
    unmoved = odin(logits, images, epsilon=0.0, std=STD)
    assert (np.abs(unmoved - expected) > 100 * TOLERANCE).all()


def test_a_std_of_one_is_the_published_code_which_steps_in_pixels(
    network: nn.Module, logits: Logits, images: Tensor
) -> None:
    expected = _pytorch_ood(network, images, 0.0014, list(STD))
    np.testing.assert_allclose(
        odin(logits, images, epsilon=0.0014, std=ONES), expected, atol=TOLERANCE, rtol=0
    )


def test_odin_is_the_formula_worked_out_by_hand_for_a_linear_model(images: Tensor) -> None:
    rng = np.random.default_rng(2)
    W = rng.normal(size=(4, 3 * 6 * 6))
    weight = torch.tensor(W)
    T, epsilon = 2.0, 0.03
    expected = []
    for image in images.numpy():
        x = (image.astype(np.float32) / np.float32(255)).astype(np.float64).ravel()
        Z = W @ x / T
        p = np.exp(Z - Z.max()) / np.exp(Z - Z.max()).sum()
        one_hot = np.eye(4)[Z.argmax()]
        gradient = (p - one_hot) @ W
        moved = x - epsilon * np.repeat(STD, 36) * np.where(gradient >= 0, 1.0, -1.0)
        z = W @ moved / T
        shares = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        expected.append(-np.log(1.0 - shares.max()))
    scores = odin(lambda x: x.flatten(1).double() @ weight.T, images, epsilon=epsilon, T=T, std=STD)
    assert scores.dtype == np.float64
    # Float32 pixels: about 1e-8 a pixel times the sum of a row of W.
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


def _godin_loop(similarity: Logits, images: Tensor, epsilon: float) -> npt.NDArray[np.float64]:
    scores = []
    for image in images:
        pixels = (image[None].float() / 255.0).requires_grad_()
        similarity(pixels).max().backward()  # type: ignore[no-untyped-call]
        assert pixels.grad is not None
        moved = pixels.detach() + epsilon * _channels(STD, torch.float32) * pixels.grad.sign()
        scores.append(similarity(moved).max().item())
    return np.array(scores)


def test_godin_is_the_largest_similarity_after_a_step_that_raises_it(logits: Logits, images: Tensor) -> None:
    scores = godin(logits, images, epsilon=0.02, std=STD, batch=4)
    # The model is in float64; only the rounding of the float32 pixels may differ.
    np.testing.assert_allclose(scores, _godin_loop(logits, images, 0.02), rtol=0, atol=1e-5)
    assert scores.dtype == np.float64
    assert (scores > godin(logits, images, epsilon=0.0, std=STD)).all()


def test_a_pixel_without_gradient_moves_as_if_it_were_positive(images: Tensor) -> None:
    def blind(pixels: Tensor) -> Tensor:
        return torch.stack([pixels[:, 0].mean((1, 2)), -pixels[:, 0].mean((1, 2))], dim=1)

    for function, sign in ((odin, -1.0), (godin, 1.0)):
        seen = _Recorder(blind)
        function(seen, images, epsilon=0.1, std=STD)
        before, after = seen.shown
        steps = (after - before)[:, 1:].mean((0, 2, 3))
        np.testing.assert_allclose(steps, [sign * 0.1 * STD[1], sign * 0.1 * STD[2]], rtol=1e-5)


def test_pixels_may_leave_the_range_of_images(logits: Logits) -> None:
    extremes = torch.stack([torch.zeros(3, 6, 6), torch.full((3, 6, 6), 255)]).to(torch.uint8)
    for function in (odin, godin):
        seen = _Recorder(logits)
        function(seen, extremes, epsilon=0.1, std=STD)
        assert seen.shown[1].min() == pytest.approx(-0.1 * max(STD), rel=1e-6)
        assert seen.shown[1].max() == pytest.approx(1.0 + 0.1 * max(STD), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-8, 1e4])
def test_flat_or_saturated_logits_do_not_change_the_step(
    logits: Logits, images: Tensor, scale: float
) -> None:
    def linear(pixels: Tensor) -> Tensor:
        return logits(pixels)[:, :2]

    plain, scaled = _Recorder(linear), _Recorder(lambda pixels: (scale * linear(pixels)).float())
    odin(plain, images, epsilon=0.1, T=1.0, std=STD)
    odin(scaled, images, epsilon=0.1, T=1.0, std=STD)
    # Of two classes the gradient's direction is the same at every scale, and cross-entropy's own is zero.
    torch.testing.assert_close(scaled.shown[1], plain.shown[1], rtol=0, atol=0)
    Z = (1e4 * linear(images.float() / 255.0)).float()
    assert (torch.softmax(Z, dim=1).amax(dim=1) == 1.0).float().mean() > 0.9


def test_scores_at_a_high_temperature_do_not_tie_where_the_logits_differ() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(-1, 1, 1, 1)

    def answer(x: Tensor) -> Tensor:
        return torch.cat([1.0 + 0.01 * x.flatten(1), x.flatten(1) * 0.0, x.flatten(1) * 0.0], dim=1)

    in_float32 = torch.softmax(answer(pixels.float() / 255.0) / 1000.0, dim=1).amax(dim=1)
    assert len(np.unique(in_float32.numpy())) < 128
    scores = odin(answer, pixels, epsilon=0.0, std=[1.0])
    assert len(np.unique(scores)) == 256
    Z = answer(pixels.float() / 255.0).numpy().astype(np.float64) / 1000.0
    p = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    # Two ways of computing the same number in float64.
    np.testing.assert_allclose(scores, -np.log1p(-p.max(axis=1)), rtol=1e-13)


@pytest.mark.parametrize("function", [odin, godin])
def test_scores_do_not_depend_on_the_batch_nor_on_an_outer_no_grad(
    function: Callable[..., npt.NDArray[np.float64]], logits: Logits, network: nn.Module, images: Tensor
) -> None:
    whole = function(logits, images, epsilon=0.02, std=STD, batch=100)
    with torch.no_grad():
        pieces = function(logits, images, epsilon=0.02, std=STD, batch=5)
    # A matrix product of another size may add in another order, in float64.
    np.testing.assert_allclose(pieces, whole, rtol=1e-12)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.fixture
def noise() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "wide": torch.randint(0, 256, (31, 3, 6, 6), dtype=torch.uint8, generator=generator),
        "narrow": torch.randint(96, 160, (40, 3, 6, 6), dtype=torch.uint8, generator=generator),
    }


def test_odin_is_tuned_to_the_smallest_mean_fpr95_on_noise(
    logits: Logits, images: Tensor, noise: dict[str, Tensor]
) -> None:
    wide_candidates = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0)
    ranks = {}
    for candidate in wide_candidates:
        known = odin(logits, images, epsilon=candidate, std=STD)
        each = [rejection_metrics(known, odin(logits, n, epsilon=candidate, std=STD)) for n in noise.values()]
        fpr95, auroc = (sum(one[name] for one in each) / 2 for name in ("fpr95_id_positive", "auroc"))
        ranks[candidate] = (fpr95, -auroc)
    best = min(ranks.values())
    assert list(ranks.values()).count(best) == 1
    for order in (wide_candidates, wide_candidates[::-1]):
        assert ranks[tune_odin(logits, images, noise, order, std=STD, batch=7)] == best


@pytest.mark.parametrize(
    ("table", "chosen"),
    [
        ({0.0: (0.2, 0.9), 0.0014: (0.3, 0.99), 0.004: (0.1, 0.5)}, 0.004),
        ({0.0: (0.2, 0.9), 0.0014: (0.2, 0.8), 0.004: (0.2, 0.95)}, 0.004),
        ({0.0: (0.2, 0.9), 0.002: (0.2 + 1e-16, 0.9), 0.004: (0.2, 0.9)}, 0.002),
        ({0.01: (1.0, 0.4), 0.0: (1.0, 0.4), 0.004: (1.0, 0.4)}, 0.0),
    ],
    ids=["fpr95 first", "then auroc", "then nearness", "from either side"],
)
def test_equals_are_told_apart_by_auroc_and_then_by_nearness_to_the_published_step(
    table: dict[float, tuple[float, float]],
    chosen: float,
    images: Tensor,
    noise: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def brightness(pixels: Tensor) -> Tensor:
        light = pixels.mean((1, 2, 3))
        return torch.stack([light, -light], dim=1)

    rows = iter(table.items())

    def fake(known: Any, unknown: Mapping[str, Any]) -> dict[str, float]:
        assert len(known) == len(images)
        assert set(unknown) == set(noise)
        candidate, row = next(rows)
        np.testing.assert_array_equal(known, odin(brightness, images, epsilon=candidate, std=STD))
        for name, scores in unknown.items():
            np.testing.assert_array_equal(scores, odin(brightness, noise[name], epsilon=candidate, std=STD))
        return dict(zip(("noise/fpr95", "noise/auroc"), row, strict=True))

    monkeypatch.setattr(perturbation, "noise_metrics", fake)
    assert tune_odin(brightness, images, noise, list(table), std=STD) == chosen


def test_godin_is_tuned_to_the_largest_sum_of_scores_on_the_validation_images(
    logits: Logits, images: Tensor
) -> None:
    def curved(pixels: Tensor) -> Tensor:
        # A step raises it at first and overshoots the top later.
        return -((pixels - 0.5) ** 2).sum((1, 2, 3))[:, None] * torch.tensor([1.0, 2.0])

    for similarity in (logits, curved):
        sums = {each: _godin_loop(similarity, images, each).sum() for each in (*CANDIDATES, 0.9, 1.6)}
        best = max(sums, key=lambda each: sums[each])
        assert tune_godin(similarity, images, list(sums), std=STD, batch=6) == best
    assert best == 0.9


def test_of_equal_sums_the_smallest_step_is_taken(images: Tensor) -> None:
    assert tune_godin(lambda x: x.flatten(1)[:, :2] * 0.0, images, [0.04, 0.01, 0.02], std=STD) == 0.01


def test_tuning_costs_one_gradient_and_one_pass_a_candidate(logits: Logits, images: Tensor) -> None:
    seen = _Recorder(logits)
    tune_godin(seen, images, CANDIDATES, std=STD, batch=len(images))
    assert len(seen.shown) == 1 + len(CANDIDATES)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epsilon": -0.1}, r"epsilon must be >= 0; got -0\.1"),
        ({"epsilon": float("nan")}, "epsilon must be >= 0; got nan"),
        ({"T": 0.0}, r"a temperature must be > 0; got 0\.0"),
        ({"std": (0.2, 0.2)}, "one number > 0 for each of 3 channels"),
        ({"std": (0.2, 0.0, 0.2)}, "one number > 0 for each of 3 channels"),
        ({"batch": 0}, "a batch must have 1 image or more; got 0"),
        ({"images": torch.zeros(2, 3, 6, 6)}, "images must be uint8"),
        ({"images": torch.zeros(0, 3, 6, 6, dtype=torch.uint8)}, "one or more"),
        ({"logits": lambda x: x.flatten(1) * float("nan")}, "the gradient .* must be finite"),
    ],
)
def test_arguments_out_of_range_are_refused(
    changed: dict[str, Any], message: str, logits: Logits, images: Tensor
) -> None:
    arguments: dict[str, Any] = {"logits": logits, "images": images, "epsilon": 0.1, "std": STD} | changed
    with pytest.raises(ValueError, match=message):
        odin(**arguments)


def test_tuning_without_candidates_or_noise_is_refused(logits: Logits, images: Tensor) -> None:
    with pytest.raises(ValueError, match="one candidate or more; got none"):
        tune_godin(logits, images, [], std=STD)
    with pytest.raises(ValueError, match="one candidate or more; got none"):
        tune_odin(logits, images, {"noise": images}, [], std=STD)
    with pytest.raises(ValueError, match="at least one noise set"):
        tune_odin(logits, images, {}, CANDIDATES, std=STD)
