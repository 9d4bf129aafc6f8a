"""The rules of a study's protocols: whether these data can be presented so."""

from __future__ import annotations

from orchestrator.study.document import Document
from orchestrator.study.spec import ProtocolSpec, StudySpec
from orchestrator.study.training import mixed
from workloads.data.catalogue import SOURCES
from workloads.data.sizes import Sizes, planned_sizes
from workloads.protocol_config import ContinualConfig, LongTailedConfig


def check_protocols(doc: Document, spec: StudySpec) -> None:
    """What the published sizes say of long tails and streams; the rest is said once the data were read."""
    if not doc.sound("protocols") or all(each.settings is None for each in spec.protocols.values()):
        return
    sizes = planned_sizes(spec.data) if doc.sound("data") and spec.data.source in SOURCES else None
    for name, each in spec.protocols.items():
        path = f"protocols.{name}"
        if isinstance(each.settings, ContinualConfig):
            _unmixed(doc, path, each, spec)
        if sizes is not None and isinstance(each.settings, LongTailedConfig):
            _long_tail(doc, path, each.settings, sizes)
        if sizes is not None and isinstance(each.settings, ContinualConfig):
            _stream(doc, path, each.settings, sizes, spec)
            _buffer(doc, path, each, each.settings, sizes)


def _unmixed(doc: Document, path: str, each: ProtocolSpec, spec: StudySpec) -> None:
    own = each.training is not None
    for key in mixed(each.training or spec.training):
        rule = f"a stream is not trained with {key}, which would mix labels with those of replayed images"
        hint = f"Write training: {{augmentation: {{{key}: 0.0}}}} in it"
        doc.problem(f"{path}.training.augmentation.{key}" if own else path, rule, hint)


def _long_tail(doc: Document, path: str, settings: LongTailedConfig, sizes: Sizes) -> None:
    # Loads numpy, which studies of the standard protocol alone are checked without.
    from workloads.data.long_tail import long_tail_counts

    try:
        long_tail_counts(sizes.train_counts, settings.profile, settings.factor)
    except ValueError as problem:
        doc.problem(f"{path}.factor", str(problem))


def _stream(doc: Document, path: str, settings: ContinualConfig, sizes: Sizes, spec: StudySpec) -> None:
    from workloads.data.streams import make_stream

    facts, stream, tasks = SOURCES[spec.data.source].facts, settings.stream, settings.tasks
    shape = (int(facts["image_channels"]), int(facts["image_height"]), int(facts["image_width"]))
    try:
        make_stream(stream, settings.scenario, tasks, len(sizes.train_counts), shape, None)
    except ValueError as problem:
        key = "tasks" if stream == "split" else "scenario"
        doc.problem(f"{path}.{key}", str(problem))


def _buffer(doc: Document, path: str, each: ProtocolSpec, settings: ContinualConfig, sizes: Sizes) -> None:
    images = sizes.num_train * (1 if settings.stream == "split" else settings.tasks)
    if {"replay", "derpp"} & set(each.variants) and settings.buffer > images:
        rule = f"must be at most the {images} training images of the stream; got {settings.buffer}"
        doc.problem(f"{path}.buffer", rule)
