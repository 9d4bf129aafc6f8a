"""``orchestrate list``: what there is to choose from."""

from __future__ import annotations

import argparse

from orchestrator.arguments import CATALOGUES
from orchestrator.errors import UserError


def list_entries(arguments: argparse.Namespace) -> int:
    from orchestrator.report.catalogue_text import catalogue_text, entry_text, recipe_entries
    from orchestrator.study.catalogue import PRUNERS, SAMPLERS
    from orchestrator.study.suggestion import did_you_mean
    from workloads.data.catalogue import SOURCES
    from workloads.evaluation.catalogue import SCORES
    from workloads.losses.catalogue import AUXILIARY, LOSSES
    from workloads.models.catalogue import MODELS

    entries = dict(
        zip(
            CATALOGUES,
            (LOSSES, MODELS, recipe_entries(), SOURCES, SCORES, SAMPLERS, PRUNERS),
            strict=True,
        )
    )
    if arguments.name is not None:
        if arguments.name not in entries[arguments.what]:
            hint = did_you_mean(arguments.name, entries[arguments.what])
            raise UserError(f"{arguments.what} has no {arguments.name!r}. {hint}")
        print("\n".join(entry_text(entries[arguments.what][arguments.name])))
        return 0
    chosen = [arguments.what] if arguments.what else list(entries)
    shared = {"losses": AUXILIARY}
    texts = (catalogue_text(name.capitalize(), entries[name], shared.get(name)) for name in chosen)
    print("\n\n".join(texts))
    return 0
