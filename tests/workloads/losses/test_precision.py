"""Every loss under half precision and under torch.compile."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.workloads.losses.batches import rare_to_frequent
from tests.workloads.losses.cases import Case
from tests.workloads.losses.table import CASES
from workloads.head import HeadOutput
from workloads.losses.base import Loss
from workloads.models.base import Classifier

COUNTS = rare_to_frequent(4)


class Flat(nn.Module):
    """A trunk of one linear layer, which runs in half precision under autocast."""

    features = 8

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, self.features)
        self.made: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        self.made = self.linear(images.flatten(1))
        return self.made


def classifier(loss: Loss) -> tuple[Classifier, Flat]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = Flat()
        # GODIN's batch norm would tell half from single precision by its running statistics.
        return Classifier(trunk, len(COUNTS), loss.head).eval(), trunk


def images(N: int = 16) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    return torch.randn(N, 3, 2, 2, generator=source), torch.randint(len(COUNTS), (N,), generator=source)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_network_in_half_precision_has_the_loss_of_its_features_in_single_precision(
    case: Case, half: torch.dtype
) -> None:
    loss = case.build(COUNTS).float().train()
    model, trunk = classifier(loss)
    pixels, labels = images()
    with torch.autocast("cpu", dtype=half):
        value = loss(model(pixels), labels)
    value.backward()
    assert trunk.made is not None
    assert trunk.made.dtype == half
    expected = case.build(COUNTS).float().train()(model.head(trunk.made.detach().float()), labels)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    for parameter in [*model.parameters(), *loss.parameters()]:
        assert parameter.grad is None or parameter.grad.isfinite().all()
    assert trunk.linear.weight.grad is not None
    assert trunk.linear.weight.grad.abs().sum().item() > 0


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_half_precision_outputs_are_widened_before_anything_is_computed(
    case: Case, half: torch.dtype
) -> None:
    """Also an output that no head of ours made."""
    loss = case.build(COUNTS).float()
    batch = case.batch(C=4)
    output, labels = batch.output, batch.labels
    halved = HeadOutput(*(t if t is None else t.detach().to(half) for t in output))  # type: ignore[arg-type]
    widened = HeadOutput(*(t if t is None else t.float() for t in halved))  # type: ignore[arg-type]
    halved.logits.requires_grad_()
    with torch.autocast("cpu", dtype=half):
        value = loss(halved, labels)
        scores = loss.eval_logits(halved)
    assert value.dtype == torch.float32
    assert value.item() == loss(widened, labels).item()
    assert scores.dtype == torch.float32
    assert torch.equal(scores, loss.eval_logits(widened))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_compiled_step_is_one_graph_with_the_value_and_gradients_of_an_eager_one(case: Case) -> None:
    torch._dynamo.reset()
    pixels, labels = images()
    found = []
    for compiled in (False, True):
        loss = case.build(COUNTS, progress=0.5).float().train()
        model, _ = classifier(loss)

        def step(model: Classifier = model, loss: Loss = loss) -> Tensor:
            value: Tensor = loss(model(pixels), labels)
            return value

        run = torch.compile(step, backend="aot_eager", fullgraph=True) if compiled else step
        value = run()
        torch.autograd.backward(value)
        parameters = [*model.parameters(), *loss.parameters()]
        grads = [torch.zeros(()) if p.grad is None else p.grad.clone() for p in parameters]
        loss.set_progress(1.0)
        found.append((value.detach(), *grads, run().detach()))
    for eager, graph in zip(*found, strict=True):
        # The same operations in another order.
        torch.testing.assert_close(graph, eager, rtol=1e-5, atol=1e-6)
