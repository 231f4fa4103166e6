"""Components of a transformer by name: heads `L4H4` (`a4.h4` in exchange formats) and MLPs `MLP9` (`m9`)."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Component:
    """An attention head (its z before W_O) or, with `head` None, the MLP of a layer; both counted from zero."""

    layer: int
    head: int | None = None

    def __str__(self) -> str:
        """Return the name used in reports: `L4H4` or `MLP9`."""
        return f"MLP{self.layer}" if self.head is None else f"L{self.layer}H{self.head}"

    @property
    def exchange_name(self) -> str:
        """The name that EAP-IG and MIB exchange: `a4.h4` or `m9`."""
        return f"m{self.layer}" if self.head is None else f"a{self.layer}.h{self.head}"

    @classmethod
    def parse(cls, name: str) -> Component:
        """Read either form of a name; raise ValueError for anything else."""
        head = re.fullmatch(r"L(\d+)H(\d+)|a(\d+)\.h(\d+)", name)
        if head:
            layer, index = (int(part) for part in head.groups() if part is not None)
            return cls(layer, index)
        mlp = re.fullmatch(r"(?:MLP|m)(\d+)", name)
        if mlp:
            return cls(int(mlp.group(1)))
        raise ValueError(f"{name!r} names no component: expected L4H4, a4.h4, MLP9 or m9")


def all_components(layers: int, heads: int) -> list[Component]:
    """Return every head and then the MLP of each layer, layers upwards: the order of arrays over components."""
    return [Component(layer, head) for layer in range(layers) for head in (*range(heads), None)]
