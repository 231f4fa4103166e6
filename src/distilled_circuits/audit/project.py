"""What an audit reads: the graph, params.yaml, dvc.lock, and the files that are there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilled_circuits.audit.digests import Digests
from distilled_circuits.audit.findings import DAMAGED
from distilled_circuits.audit.record import Entry, Record, read_record
from distilled_circuits.audit.store import Store
from distilled_circuits.graph import Graph, Instance
from distilled_circuits.lockfile import LOCK, read_lock
from distilled_circuits.params import Params, load_params_and_graph


@dataclass(frozen=True)
class Project:
    """The project in the working directory."""

    graph: Graph
    params: Params
    record: Record
    digests: Digests
    store: Store

    @classmethod
    def here(cls, digests: Digests, store: Store) -> Project:
        """Read the project; raise UserError where it is none, or where params.yaml has a mistake."""
        params, graph = load_params_and_graph()
        text = read_lock() if Path(LOCK).exists() else "stages: {}"
        return cls(graph, params, read_record(text), digests, store)

    @property
    def makers(self) -> dict[str, Instance]:
        """The stage that makes each output, in the order of the graph."""
        return self.graph.outputs

    def entry(self, item: Instance) -> Entry:
        """Return what dvc.lock records of a stage; an empty entry for one that it does not know (a finding)."""
        return self.record.entries.get(item.name) or Entry(cmd=item.command)

    def provenance(self, path: str) -> dict[str, Any] | None:
        """Return what an artifact says of itself; None for tables and the page, and for what says nothing."""
        if not says_what_it_is(path):
            return None
        try:
            return self.store.provenance(Path(path))
        except DAMAGED:  # the check of invariants says so
            return None


def says_what_it_is(path: str) -> bool:
    """Return whether an output has provenance inside: all but the tables, metrics and the page made for reading."""
    return Path(path).suffix in ("", ".h5", ".json")
