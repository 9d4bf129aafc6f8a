"""The heads: values by hand, what they start at, precision under autocast, gradients at the edge."""

from __future__ import annotations

import copy
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from workloads.head import Divisor, HeadOutput, HeadSpec, Similarity
from workloads.models.heads import CosineHead, GodinHead, Head, LinearHead, Projector, build_head

Array = npt.NDArray[np.float64]
N, D, C = 6, 4, 3
ROUNDING = 1e-12
"""Both sides are float64 and add up a handful of terms near 1."""
SIMILARITIES: tuple[Similarity, ...] = ("cosine", "inner", "euclid")
DIVISORS: tuple[Divisor, ...] = ("sigmoid", "exp")
SPECS = {
    "linear": HeadSpec(),
    "linear without bias": HeadSpec(bias=False),
    "linear at the prior": HeadSpec(prior=True),
    "cosine": HeadSpec("cosine"),
    **{f"godin {h} {g}": HeadSpec("godin", similarity=h, divisor=g) for h in SIMILARITIES for g in DIVISORS},
}
every_head = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
every_godin = pytest.mark.parametrize(("h", "g"), [(h, g) for h in SIMILARITIES for g in DIVISORS])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(spec: HeadSpec, features: int = D, classes: int = C) -> Head:
    torch.manual_seed(7)
    return build_head(spec, features, classes)


def array(tensor: Tensor | None) -> Array:
    assert tensor is not None
    assert tensor.dtype == torch.float64
    return tensor.detach().numpy()


def cosines(X: Array, W: Array, epsilon: float = 0.0) -> Array:
    lengths = np.outer(np.sqrt((X**2).sum(1)) + epsilon, np.sqrt((W**2).sum(1)) + epsilon)
    return np.asarray(X @ W.T / lengths)


def godin(h: Similarity, g: Divisor) -> GodinHead:
    """A float64 head whose bias and batch norm do something."""
    head = built(HeadSpec("godin", similarity=h, divisor=g)).double()
    assert isinstance(head, GodinHead)
    norm = head.divisor[1]
    assert isinstance(norm, nn.BatchNorm1d)
    with torch.no_grad():
        norm.weight.fill_(0.7)
        norm.bias.fill_(-0.4)
        if head.bias is not None:
            head.bias.copy_(drawn(C, seed=3))
    return head


def expected_godin(head: GodinHead, X: Array, mean: Array, variance: Array) -> tuple[Array, Array]:
    """h/g and g with the given batch statistics."""
    state = {name: array(tensor) for name, tensor in head.state_dict().items() if tensor.is_floating_point()}
    W = state["weight"]
    linear = X @ state["divisor.0.weight"].T + state["divisor.0.bias"]
    raw = 0.7 * (linear - mean) / np.sqrt(variance + 1e-5) - 0.4
    g = 1 / (1 + np.exp(-raw)) if head.activation == "sigmoid" else np.exp(raw)
    if head.similarity == "cosine":
        h = cosines(X, W, 1e-4)
    elif head.similarity == "inner":
        h = X @ W.T + state["bias"]
    else:
        h = -((X[:, None, :] - W[None, :, :]) ** 2).mean(axis=2)
    return h / g, g


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_head_gives_xw_plus_b_and_what_it_is_made_of(bias: bool) -> None:
    head = built(HeadSpec(bias=bias)).double()
    X = drawn(N, D)
    output = head(X)
    b = array(head.bias) if bias else 0.0
    assert array(output.logits) == pytest.approx(array(X) @ array(head.weight).T + b, rel=ROUNDING)
    assert output.features is X
    assert output.weight is head.weight
    assert output.bias is head.bias
    assert (head.bias is None, output.divisor) == (not bias, None)


def test_a_linear_head_starts_uniform_and_never_at_zero() -> None:
    head = built(SPECS["linear"], 100, 50)
    assert head.bias is not None
    for parameter in (head.weight, head.bias):
        # 5000 and 50 uniform draws: the largest is within 10 % of the bound but for a chance of e^-5.
        assert 0.09 < parameter.abs().max().item() <= 0.1
    # Uniform in +-0.1: standard deviation 0.1 / sqrt(3), known to 1 % from 5000 draws.
    assert head.weight.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_a_head_at_the_prior_gives_every_class_a_sigmoid_of_one_in_c(classes: int) -> None:
    head = built(SPECS["linear at the prior"], 50, classes)
    assert head.bias is not None
    assert head.bias.detach().numpy() == pytest.approx(np.full(classes, -math.log(classes - 1)), rel=1e-6)
    at_zero = head(torch.zeros(1, 50)).logits.sigmoid()
    assert at_zero.detach().numpy() == pytest.approx(np.full((1, classes), 1 / classes), rel=1e-5)
    # At least 100 draws: the standard deviation is known to 7 %, and three times that is allowed.
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.2)


def test_a_cosine_head_gives_cosines_whatever_the_lengths() -> None:
    head = built(SPECS["cosine"]).double()
    X = drawn(N, D)
    output = head(X)
    assert array(output.logits) == pytest.approx(cosines(array(X), array(head.weight)), rel=ROUNDING)
    with torch.no_grad():
        head.weight.mul_(torch.tensor([[3.0], [0.01], [50.0]]))
    assert array(head(X * 20).logits) == pytest.approx(array(output.logits), rel=ROUNDING)
    assert output.features is X
    assert output.weight is head.weight
    assert (output.bias, output.divisor) == (None, None)


def test_features_along_a_class_weight_have_cosine_one_and_against_it_minus_one() -> None:
    head = built(SPECS["cosine"]).double()
    W = head.weight.detach()
    got = array(head(torch.cat([2 * W, -0.3 * W])).logits)
    assert np.diag(got[:C]) == pytest.approx(np.ones(C), rel=ROUNDING)
    assert np.diag(got[C:]) == pytest.approx(-np.ones(C), rel=ROUNDING)


@every_godin
def test_a_godin_head_divides_by_a_batch_normalised_divisor_in_training(h: Similarity, g: Divisor) -> None:
    head = godin(h, g).train()
    X = drawn(N, D)
    output = head(X)
    linear = array(head.divisor[0](X))
    logits, divisor = expected_godin(head, array(X), linear.mean(0), linear.var(0))
    assert array(output.logits) == pytest.approx(logits, rel=ROUNDING)
    assert array(output.divisor) == pytest.approx(divisor, rel=ROUNDING)
    assert (output.features is X, output.weight is head.weight, output.bias is head.bias) == (True,) * 3
    # Momentum 0.1 from mean 0 and variance 1; the running variance is the unbiased one.
    state = head.state_dict()
    assert array(state["divisor.1.running_mean"]) == pytest.approx(0.1 * linear.mean(0), rel=ROUNDING)
    running = 0.9 + 0.1 * linear.var(0, ddof=1)
    assert array(state["divisor.1.running_var"]) == pytest.approx(running, rel=ROUNDING)


@every_godin
def test_a_godin_head_uses_its_running_statistics_in_evaluation(h: Similarity, g: Divisor) -> None:
    head = godin(h, g).eval()
    state = head.state_dict()
    state["divisor.1.running_mean"].fill_(0.3)
    state["divisor.1.running_var"].fill_(2.5)
    X = drawn(N, D)
    logits, divisor = expected_godin(head, array(X), np.array([0.3]), np.array([2.5]))
    output = head(X)
    assert array(output.logits) == pytest.approx(logits, rel=ROUNDING)
    assert array(output.divisor) == pytest.approx(divisor, rel=ROUNDING)
    # One image says the same alone as among others.
    assert array(head(X[:1]).logits) == pytest.approx(logits[:1], rel=ROUNDING)


@pytest.mark.parametrize("g", DIVISORS)
def test_the_divisor_of_a_godin_head_is_kept_from_zero(g: Divisor) -> None:
    head = godin("cosine", g)
    head.state_dict()["divisor.1.bias"].fill_(-40)
    X = drawn(N, D)
    output = head(X)
    assert array(output.divisor).tolist() == [[1e-3]] * N
    assert array(output.logits) == pytest.approx(
        1e3 * cosines(array(X), array(head.weight), 1e-4), rel=ROUNDING
    )


def test_a_godin_head_starts_he_normal_with_a_bias_of_zero() -> None:
    head = built(HeadSpec("godin", similarity="inner"), 200, 100)
    assert head.bias is not None
    assert head.bias.abs().max().item() == 0
    # 20,000 draws: the standard deviation is known to 0.5 %.
    assert head.weight.std().item() == pytest.approx(math.sqrt(2 / 200), rel=0.02)


def test_only_the_similarity_of_a_godin_head_is_not_decayed() -> None:
    for name in ("linear", "linear without bias", "linear at the prior", "cosine"):
        assert list(built(SPECS[name]).undecayed()) == []
    for h in SIMILARITIES:
        head = built(HeadSpec("godin", similarity=h))
        names = {name for name, p in head.named_parameters() if any(p is kept for kept in head.undecayed())}
        assert names == ({"weight", "bias"} if h == "inner" else {"weight"})


def test_every_spec_builds_its_own_head() -> None:
    kinds = [type(build_head(HeadSpec(kind), D, C)) for kind in ("linear", "cosine", "godin")]
    assert kinds == [LinearHead, CosineHead, GodinHead]
    for h in SIMILARITIES:
        for g in DIVISORS:
            head = build_head(HeadSpec("godin", similarity=h, divisor=g), D, C)
            assert isinstance(head, GodinHead)
            assert (head.similarity, head.activation) == (h, g)


@every_head
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_features_lose_nothing_more_in_a_head(spec: HeadSpec, half: torch.dtype) -> None:
    head, twin = built(spec), built(spec)
    X = drawn(N, D).to(half)
    with torch.autocast("cpu", dtype=half):
        output = head(X)
    expected = twin(X.float())
    assert_float32_and_equal(output, expected)


@every_head
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_takes_no_precision_from_a_head(spec: HeadSpec, half: torch.dtype) -> None:
    head, twin = built(spec), built(spec)
    X = drawn(N, D).float()
    with torch.autocast("cpu", dtype=half):
        output = head(X)
    assert_float32_and_equal(output, twin(X))


def assert_float32_and_equal(output: HeadOutput, expected: HeadOutput) -> None:
    for got, wanted in zip(output, expected, strict=True):
        assert (got is None) == (wanted is None)
        if got is not None and wanted is not None:
            assert got.dtype == torch.float32
            assert torch.equal(got, wanted)


@every_head
def test_a_head_of_doubles_computes_in_doubles(spec: HeadSpec) -> None:
    single = built(spec)
    double = copy.deepcopy(single).double()
    X = drawn(N, D).float()
    got = double(X.double()).logits
    assert got.dtype == torch.float64
    # float32 rounds at 6e-8; GODIN's divisor may be small, so its logits carry a few more roundings.
    assert torch.allclose(single(X).logits.double(), got, rtol=1e-4, atol=1e-5)


@every_head
def test_an_image_whose_features_are_all_zero_has_a_finite_gradient(spec: HeadSpec) -> None:
    head = built(spec)
    X = drawn(N, D).float()
    X[2] = 0
    X.requires_grad_()
    output = head(X)
    assert output.logits.isfinite().all()
    output.logits.square().sum().backward()
    assert X.grad is not None
    for gradient in (X.grad, *(p.grad for p in head.parameters())):
        assert gradient is not None
        assert gradient.isfinite().all()


def test_a_class_weight_of_zero_has_a_finite_gradient_on_a_cosine_head() -> None:
    head = built(SPECS["cosine"])
    with torch.no_grad():
        head.weight[1] = 0
    head(drawn(N, D).float()).logits.sum().backward()
    assert head.weight.grad is not None
    assert head.weight.grad.isfinite().all()


def test_a_projector_has_the_published_layers() -> None:
    first, second, third, fourth, fifth = Projector(12, 5)
    assert isinstance(first, nn.Linear)
    assert (first.in_features, first.out_features) == (12, 20)
    assert isinstance(second, nn.ReLU)
    assert isinstance(third, nn.BatchNorm1d)
    assert (third.num_features, third.affine) == (20, True)
    assert isinstance(fourth, nn.Linear)
    assert (fourth.in_features, fourth.out_features) == (20, 5)
    assert isinstance(fifth, nn.BatchNorm1d)
    assert (fifth.num_features, fifth.affine) == (5, False)


def test_a_projector_computes_what_its_layers_say() -> None:
    torch.manual_seed(7)
    projector = Projector(D, 2).double()
    X = drawn(N, D)
    got = array(projector(X))
    state = {name: array(p) for name, p in projector.named_parameters()}

    def standardised(values: Array) -> Array:
        return np.asarray((values - values.mean(0)) / np.sqrt(values.var(0) + 1e-5))

    hidden = np.maximum(array(X) @ state["0.weight"].T + state["0.bias"], 0)
    hidden = standardised(hidden) * state["2.weight"] + state["2.bias"]
    expected = standardised(hidden @ state["3.weight"].T + state["3.bias"])
    assert got == pytest.approx(expected, rel=ROUNDING, abs=ROUNDING)
    assert got.mean(0) == pytest.approx([0.0, 0.0], abs=ROUNDING)
