"""Where a study's MLflow runs are, noted in its folder: a report finds them without asking MLflow."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

FILE = "mlflow.json"


@dataclass(frozen=True)
class Whereabouts:
    """A store and the experiment in it that holds the study's runs."""

    uri: str
    """Without user and password."""
    experiment_id: str

    def url(self, found: str) -> str | None:
        """A server's page of the runs that a filter finds; None for a store without a server."""
        if not self.uri.startswith(("http://", "https://")):
            return None
        return self.page(self.uri, found)

    def arms_page(self, server: str) -> str:
        """The charts of the arms side by side, on a server of this store."""
        return self.page(server, "tags.`orchestrate.role` LIKE 'arm:%'") + "&compareRunsMode=CHART"

    def page(self, server: str, found: str) -> str:
        """The runs that a filter finds.

        Sorted by name: MLflow 3.17 shows runs sorted by time only inside their folded parents. And it opens
        its pages for language models unless it is told what this is.
        """
        page = f"{server.rstrip('/')}/#/experiments/{quote(self.experiment_id)}/runs"
        order = "orderByKey=attributes.run_name&orderByAsc=true"
        return f"{page}?workflowType=machine_learning&searchFilter={quote(found, safe='')}&{order}"


def note(study_dir: Path, where: Whereabouts) -> None:
    """Write the file; a study's folder that cannot be written goes without."""
    temporary = study_dir / f".{FILE}.{uuid.uuid4().hex}"
    try:
        temporary.write_text(json.dumps(asdict(where), indent=1) + "\n")
        temporary.replace(study_dir / FILE)
    except OSError:
        # A full disk stops the study by itself: links are not worth an error.
        temporary.unlink(missing_ok=True)


def recall(study_dir: Path) -> Whereabouts | None:
    """What was noted last; None where nothing was, or it cannot be read."""
    try:
        saved = json.loads((study_dir / FILE).read_text())
        return Whereabouts(str(saved["uri"]), str(saved["experiment_id"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
