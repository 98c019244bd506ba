"""An operator that cosmic-ray lacks: a statement is left out."""

from collections.abc import Iterator, Sequence
from typing import Any

from cosmic_ray.operators.operator import Example, Operator
from parso.python.tree import Keyword
from parso.tree import search_ancestor


class LeaveOut(Operator):  # type: ignore[misc]  # cosmic-ray is not typed
    """Put `pass` in place of a call, of an assignment to attributes or items, or of a `del`.

    Not of an assignment to a local name, nor of one in `__init__`: then the next use of it fails,
    whatever it is, which says little.
    """

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Yield start and end of a node that is such a statement."""
        if node.parent is not None and node.parent.type == "simple_stmt" and _acts(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Return what stands in place of the node."""
        return Keyword("pass", node.start_pos, node.get_first_leaf().prefix)

    @classmethod
    def examples(cls) -> Sequence[Example]:
        """Return examples, with which cosmic-ray would test it."""
        return (
            Example("f(x)\n", "pass\n"),
            Example("await f(x)\n", "pass\n"),
            Example("x = 1\nself.x = 1\n", "x = 1\npass\n"),
            Example("x = 1\nx += 1\n", "x = 1\npass\n"),
            Example("del x[1]\n", "pass\n"),
        )


def _acts(node: Any) -> bool:
    """Say whether a statement is a call, or changes something that others see."""
    if node.type != "expr_stmt":
        return node.type in {"atom_expr", "del_stmt"}
    target, second = node.children[:2]
    if second.type == "annassign":
        return False
    function: Any = search_ancestor(node, "funcdef")
    initial = function is not None and function.name.value == "__init__"
    return second.value != "=" or (target.type != "name" and not initial)
