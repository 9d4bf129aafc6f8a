"""The Fisher information is that of a loop over images, for every model, head and loss of the catalogues."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.workloads.test_architectures import LIGHT
from workloads.contract import ModelConfig
from workloads.head import HeadOutput, HeadSpec
from workloads.losses.base import Loss, LossContext
from workloads.losses.build import build_loss
from workloads.losses.catalogue import LOSSES
from workloads.losses.cross_entropy import CrossEntropy
from workloads.models.base import Classifier
from workloads.models.build import build_model
from workloads.models.catalogue import MODELS
from workloads.training import fisher, squares
from workloads.training.fisher import Kind, fisher_diagonal

CLASSES = 5
CONTEXT = LossContext(150, CLASSES, (50, 40, 30, 20, 10))
RTOL = 1e-9
"""Of the largest entry of a parameter: float64 sums in another order, through up to 32 layers."""
Diagonal = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]


def data(count: int, shape: Sequence[int] = (3, 8, 8), seed: int = 1) -> Batch:
    torch.manual_seed(seed)
    images = torch.randn(count, *shape, dtype=torch.float64)
    return images.contiguous(memory_format=torch.channels_last), torch.arange(count) * 3 % CLASSES


def used(model: Classifier) -> Classifier:
    """As after some training: statistics, scales and shifts are not those of the start."""
    model = model.double()
    torch.manual_seed(2)
    for name, values in [*model.named_parameters(), *model.named_buffers()]:
        with torch.no_grad():
            if name.endswith("running_var"):
                values.uniform_(0.5, 2)
            elif values.dim() == 1 and values.is_floating_point():
                values.add_(torch.randn_like(values) * 0.3)
            elif name.endswith("token"):
                values.normal_()
    return model


def made(
    name: str = "small_cnn_8x8", head: HeadSpec | None = None, projector: int | None = None
) -> Classifier:
    torch.manual_seed(0)
    config = ModelConfig(name, LIGHT[name], projector)
    return used(build_model(config, (3, 8, 8), CLASSES, head))


def of_trunk(trunk: nn.Module, features: int) -> Classifier:
    torch.manual_seed(0)
    trunk.features = features  # type: ignore[assignment]
    return used(Classifier(cast(Any, trunk), CLASSES))


def loss_named(name: str, **params: Any) -> Loss:
    return build_loss(name, params, CONTEXT).double()


def loop(
    model: Classifier, loss: Loss, batch: Batch, active: Tensor | None = None, expected: bool = False
) -> Diagonal:
    """One image, and one class, at a time: forward, backward, square, add."""
    model.eval()
    loss.eval()
    totals = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    columns = list(range(CLASSES)) if active is None else active.tolist()
    for image, label in zip(*batch, strict=True):
        output = model(image.unsqueeze(0))
        logits = loss.eval_logits(output if active is None else output.columns(active))
        log_p = F.log_softmax(logits, 1)[0]
        for place, column in enumerate(columns):
            if not expected and column != int(label):
                continue
            model.zero_grad()
            log_p[place].backward(retain_graph=True)  # type: ignore[no-untyped-call]
            weight = float(log_p[place].detach().exp()) if expected else 1.0
            for name, p in model.named_parameters():
                if p.grad is not None:
                    totals[name] += weight * p.grad**2
    model.zero_grad()
    return {name: total / len(batch[0]) for name, total in totals.items()}


def assert_same(found: Diagonal, wanted: Diagonal, rtol: float = RTOL) -> None:
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        assert found[name].shape == values.shape
        assert found[name].dtype == values.dtype
        error = float((found[name] - values).abs().max())
        assert error <= rtol * float(values.abs().max()), name


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images at once through the model, one or two at once in a layer."""
    monkeypatch.setattr(fisher, "CPU_IMAGES", 3)
    monkeypatch.setattr(squares, "CPU_BLOCK", 500)
    monkeypatch.setattr(fisher, "MAPPED_BLOCK", 1)


@pytest.mark.parametrize("name", list(LIGHT))
def test_every_architecture_gives_the_squares_of_a_loop_over_images(name: str) -> None:
    model, loss, batch = made(name), loss_named("cross_entropy"), data(2)
    wanted = loop(model, loss, batch)
    assert_same(fisher_diagonal(model, loss, [batch]), wanted)
    assert all(float(values.max()) > 0 for part, values in wanted.items() if "in_proj_bias" not in part)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "vit_tiny"])
def test_every_layer_of_the_catalogue_but_a_transformers_has_a_formula(name: str) -> None:
    with torch.device("meta"):
        trunk = build_model(ModelConfig(name), (3, 32, 32), 10).trunk
    layers = [part for part in trunk.modules() if list(part.parameters(recurse=False))]
    assert layers
    assert all(squares.has_formula(layer) for layer in layers)


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_gives_the_squares_of_its_evaluated_logits(name: str) -> None:
    loss = loss_named(name)
    model, batch, active = made("mlp", loss.head), data(6), torch.tensor([3, 0, 1, 4, 2])[:4]
    assert_same(fisher_diagonal(model, loss, [batch]), loop(model, loss, batch))
    kept = torch.isin(batch[1], active)
    batch = (batch[0][kept], batch[1][kept])
    assert len(batch[0]) == 5
    assert_same(fisher_diagonal(model, loss, [batch], active), loop(model, loss, batch, active))


HEADS = [
    HeadSpec(),
    HeadSpec(bias=False),
    HeadSpec("cosine"),
    *(
        HeadSpec("godin", similarity=h, divisor=g)
        for h in ("cosine", "inner", "euclid")
        for g in ("sigmoid", "exp")
    ),
]


@pytest.mark.parametrize("head", HEADS, ids=str)
@pytest.mark.parametrize("expected", [False, True])
def test_every_head_gives_the_squares_of_a_loop_over_images(head: HeadSpec, expected: bool) -> None:
    model, loss, batch = made("small_cnn_8x8", head, projector=6), CrossEntropy().double(), data(6)
    kind: Kind = "expected" if expected else "labels"
    assert_same(fisher_diagonal(model, loss, [batch], kind=kind), loop(model, loss, batch, expected=expected))


@pytest.mark.parametrize(
    "name", ["cross_entropy", "modified_softmax", "t2fnorm", "logit_adjustment", "normface"]
)
@pytest.mark.parametrize("active", [None, [4, 1, 0]])
def test_the_expectation_weights_every_class_by_its_probability(name: str, active: list[int] | None) -> None:
    loss = loss_named(name)
    model, batch = made("small_cnn_8x8", loss.head), data(4)
    columns = None if active is None else torch.tensor(active)
    found = fisher_diagonal(model, loss, [batch], columns, "expected")
    assert_same(found, loop(model, loss, batch, columns, expected=True))
    if active is not None and loss.head.kind == "linear":
        assert found["head.weight"][[2, 3]].abs().max() == 0


def test_a_transformers_expectation_is_that_of_a_loop() -> None:
    model, loss, batch = made("vit_tiny"), loss_named("cross_entropy"), data(3)
    found = fisher_diagonal(model, loss, [batch], kind="expected")
    assert_same(found, loop(model, loss, batch, expected=True))


def test_a_linear_softmax_is_as_computed_by_hand() -> None:
    """p = (3/4, 1/4): the gradient on the weights of class 0 of label 0 is (3/4 - 1) x."""
    model = of_trunk(nn.Flatten(), 2)
    with torch.no_grad():
        model.head.weight.zero_()
        assert model.head.bias is not None
        model.head.bias.copy_(torch.tensor([3, 1, 1, 1, 1], dtype=torch.float64).log())
    images = torch.tensor([[2.0, -1.0], [1.0, 3.0]], dtype=torch.float64).reshape(2, 2, 1, 1)
    batch, active = (images, torch.tensor([0, 1])), torch.tensor([0, 1])
    found = fisher_diagonal(model, CrossEntropy(), [batch], active)
    first = (0.25**2 * images[0] ** 2 + 0.75**2 * images[1] ** 2).flatten() / 2
    torch.testing.assert_close(found["head.weight"][0], first, atol=1e-14, rtol=0)
    torch.testing.assert_close(found["head.weight"][1], first, atol=1e-14, rtol=0)  # a few roundings
    expected = fisher_diagonal(model, CrossEntropy(), [batch], active, "expected")
    spread = (3 / 16 * images**2).mean(0).flatten()  # p (1 - p) x^2
    torch.testing.assert_close(expected["head.weight"][0], spread, atol=1e-14, rtol=0)


class Forms(nn.Module):
    """Convolutions of all forms, tokens, a layer used twice and a weight of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(3, 8, (3, 2), (2, 1), (1, 2), (1, 2))
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4, bias=False)
        self.depthwise = nn.Conv2d(12, 12, 3, groups=12)
        self.reflected = nn.Conv2d(12, 6, 3, padding=1, padding_mode="reflect")
        self.same = nn.Conv2d(6, 6, 3, padding="same")
        self.norm = nn.LayerNorm((4, 6))
        self.tokens = nn.Linear(6, 6)
        self.line = nn.BatchNorm1d(4)
        self.twice = nn.Linear(6, 6)
        self.one = nn.Linear(6, 6)
        self.other = nn.Linear(6, 6)
        self.other.weight = self.one.weight
        self.free = nn.Parameter(torch.randn(6))
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.grouped(self.strided(x).tanh()).tanh())
        x = self.same(self.reflected(x).tanh())
        x = x.flatten(2)[:, :, :4].transpose(1, 2)  # [batch, 4, 6]
        x = self.line(self.tokens(self.norm(x)).tanh())
        x = self.twice(self.twice(x).tanh())[:, 1]
        found: Tensor = self.other(self.one(x).tanh()) * self.free
        return found


@pytest.mark.parametrize("blocks", ["default", "small"])
def test_every_form_of_layer_gives_the_squares_of_a_loop(blocks: str, request: pytest.FixtureRequest) -> None:
    if blocks == "small":
        request.getfixturevalue("small_blocks")
    model, loss, batch = of_trunk(Forms(), 6), CrossEntropy().double(), data(7)
    wanted = loop(model, loss, batch)
    assert_same(fisher_diagonal(model, loss, [batch]), wanted)
    assert wanted["trunk.unused.weight"].abs().max() == 0


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", ["wrn_40_2", "vit_tiny", "mlp"])
@pytest.mark.parametrize("loss_name", ["cross_entropy", "normface", "modified_softmax"])
def test_the_size_of_the_blocks_changes_nothing(name: str, loss_name: str) -> None:
    loss = loss_named(loss_name)
    model, batch = made(name, loss.head), data(4)
    assert_same(fisher_diagonal(model, loss, [batch]), loop(model, loss, batch))


def test_images_count_the_same_however_they_are_cut_into_batches() -> None:
    model, loss, (images, labels) = made(), loss_named("cross_entropy"), data(7)
    cut = [(images[:4], labels[:4]), (images[4:5], labels[4:5]), (images[5:], labels[5:])]
    whole = loop(model, loss, (images, labels))
    assert_same(fisher_diagonal(model, loss, iter(cut)), whole)


@pytest.mark.parametrize("name", ["hem", "cross_entropy"])
def test_the_batch_mean_is_the_squared_gradient_of_the_criterion(name: str) -> None:
    loss = loss_named(name)
    model, (images, labels), active = made("small_cnn_8x8", loss.head), data(7), torch.tensor([3, 1, 0, 4, 2])
    found = fisher_diagonal(
        model, loss, [(images[:5], labels[:5]), (images[5:], labels[5:])], active, "batch_mean"
    )
    model.eval()
    loss.eval()
    totals = {key: torch.zeros_like(p) for key, p in model.named_parameters()}
    for part in (slice(0, 5), slice(5, 7)):
        model.zero_grad()
        loss(model(images[part]), labels[part], active).backward()
        for key, p in model.named_parameters():
            assert p.grad is not None
            totals[key] += p.grad**2 / 2
    assert_same(found, totals)


class Centred(Loss):
    """A user's loss whose scores mix the columns, by the weights of all classes."""

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return F.cross_entropy(output.logits, targets)

    def restored(self, output: HeadOutput) -> Tensor:
        assert output.weight is not None
        assert output.features is not None
        middle = output.weight.mean(0, keepdim=True)
        return output.logits * (1 + F.linear(output.features, middle).tanh())


def test_a_users_own_scores_may_mix_the_classes() -> None:
    model, loss, batch = made(), Centred(), data(4)
    assert_same(fisher_diagonal(model, loss, [batch]), loop(model, loss, batch))


class Scaled(Loss):
    """Scores that keep to a column, as those of this project's losses, with a factor for each class."""

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return F.cross_entropy(output.logits, targets)

    def restored(self, output: HeadOutput) -> Tensor:
        return output.logits * self.of_classes(torch.tensor([1.0, 3, 2, 5, 4]), output)

    restored.__module__ = "workloads.losses.scaled"


def test_every_copy_of_the_heads_weights_is_known_by_its_class() -> None:
    model, loss, batch, active = made(), Scaled(), data(4), torch.tensor([4, 1, 3, 0])
    assert_same(fisher_diagonal(model, loss, [batch]), loop(model, loss, batch))
    found = fisher_diagonal(model, loss, [batch], active, "expected")
    assert_same(found, loop(model, loss, batch, active, expected=True))


@pytest.mark.parametrize("kind", ["labels", "expected", "batch_mean"])
def test_a_loss_without_values_for_classes_to_come_is_asked_for_the_others_only(kind: Kind) -> None:
    context = LossContext(90, CLASSES, (50, 0, 0, 40, 0), active=(0, 3))
    loss = build_loss("logit_adjustment", {"apply": "evaluation"}, context).double()
    model, (images, labels), active = made(), data(4), torch.tensor([3, 0])
    found = fisher_diagonal(model, loss, [(images[:2], labels[:2])], active, kind)
    assert labels[:2].tolist() == [0, 3]
    assert all(values.isfinite().all() for values in found.values())
    assert all(values.max() > 0 for values in found.values())


def test_an_image_counts_also_where_its_float32_probability_is_one() -> None:
    model = of_trunk(nn.Flatten(), 1).float()
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[20.0], [0], [0], [0], [0]]))
        assert model.head.bias is not None
        model.head.bias.zero_()
    batch = torch.ones(1, 1, 1, 1), torch.tensor([0])
    wrong = 4 / (torch.tensor(20.0, dtype=torch.float64).exp() + 4)
    found = fisher_diagonal(model, CrossEntropy(), [batch])["head.weight"][0, 0]
    assert float(found) == pytest.approx(float(wrong) ** 2, rel=1e-5)  # float32


@pytest.mark.parametrize("kind", ["labels", "expected", "batch_mean"])
def test_modes_gradients_hooks_and_statistics_are_left_as_they_were(kind: Kind) -> None:
    model, loss, batch = made("wrn_40_2"), loss_named("adacos").train(), data(4)
    model = made("wrn_40_2", loss.head).train()
    frozen = next(part for part in model.modules() if isinstance(part, nn.BatchNorm2d)).eval()
    first = next(iter(model.parameters()))
    first.grad = torch.ones_like(first)
    state = {key: value.clone() for key, value in [*model.state_dict().items(), *loss.state_dict().items()]}
    generator = torch.get_rng_state()
    with torch.no_grad():
        fisher_diagonal(model, loss, [batch], kind=kind)
    assert loss.training
    assert [part for part in model.modules() if not part.training] == [frozen]
    assert all(p.grad is None for p in list(model.parameters())[1:])
    assert (first.grad == 1).all()
    for key, value in [*model.state_dict().items(), *loss.state_dict().items()]:
        assert torch.equal(value, state[key])
    assert not any(part._forward_hooks for part in model.modules())
    assert torch.equal(torch.get_rng_state(), generator)
    assert loss.stats() == {}


def test_modes_are_put_back_after_an_error() -> None:
    model = made().train()
    with pytest.raises(ValueError, match="active classes \\[0, 1\\]; got 3"):
        fisher_diagonal(model, CrossEntropy(), [data(3)], torch.tensor([0, 1]))
    assert model.training
    assert not any(part._forward_hooks for part in model.modules())


def test_frozen_parameters_and_those_of_the_loss_are_left_out() -> None:
    loss = loss_named("normface", learn_s=True)
    model, batch = made("small_cnn_8x8", loss.head), data(4)
    wanted = loop(model, loss, batch)
    for p in model.trunk.parameters():
        p.requires_grad_(False)
    found = fisher_diagonal(model, loss, [batch])
    assert_same(found, {"head.weight": wanted["head.weight"]})
    for p in model.parameters():
        p.requires_grad_(not p.requires_grad)
    found = fisher_diagonal(model, loss, [batch])
    assert_same(found, {key: value for key, value in wanted.items() if key != "head.weight"})


@pytest.fixture
def strict() -> Iterator[None]:
    torch.set_deterministic_debug_mode("error")
    yield
    torch.set_deterministic_debug_mode("default")


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    ("name", "loss_name"),
    [
        ("small_cnn_28x28", "cross_entropy"),
        ("densenet_bc_100_12", "normface"),
        ("mlp", "godin"),
        ("vit_tiny", "t2fnorm"),
    ],
)
def test_the_same_batch_gives_the_same_bits_with_deterministic_kernels(name: str, loss_name: str) -> None:
    loss = loss_named(loss_name).float()
    model, (images, labels) = made(name, loss.head).float(), data(5)
    kinds: tuple[Kind, ...] = ("labels", "expected", "batch_mean")
    for kind in kinds:
        runs = [
            fisher_diagonal(model, loss, [(images.float(), labels)], torch.arange(CLASSES), kind)
            for _ in range(2)
        ]
        assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])


_COMMON = """
import sys, torch
from workloads.contract import ModelConfig
from workloads.losses.cosine import NormFace
from workloads.losses.cross_entropy import CrossEntropy
from workloads.models.build import build_model
from workloads.training.fisher import fisher_diagonal

small = {"small_cnn_8x8": {}, "mlp": {}, "wrn_16_2": {"depth": 10}, "resnet18": {}}
for name, params in small.items():
    for loss in (CrossEntropy(), NormFace()):
        model = build_model(ModelConfig(name, params), (3, 8, 8), 3, loss.head)
        batch = torch.randn(2, 3, 8, 8), torch.tensor([0, 2])
        for kind in ("labels", "expected", "batch_mean"):
            fisher_diagonal(model, loss, [batch], torch.tensor([0, 2]), kind)
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def test_the_common_models_leave_the_compiler_unloaded() -> None:
    words = [sys.executable, "-c", _COMMON]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_what_cannot_be_is_refused() -> None:
    model, loss = made(), loss_named("cross_entropy")
    with pytest.raises(ValueError, match="labels, expected, batch_mean; got 'true'"):
        fisher_diagonal(model, loss, [data(2)], kind="true")  # type: ignore[arg-type]
    for batches in ([], [data(0)]):
        with pytest.raises(ValueError, match="at least one image"):
            fisher_diagonal(model, loss, batches)
