"""Which mutants of hbtd there are: its code with one operator, number or statement changed.

The operators are cosmic-ray's, a choice of those whose mutants run: its others replace each
operator by all others, which mostly fails at once and says little. One is added, `LeaveOut`.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

SCOPE = (
    "hbtd/tracker",
    "hbtd/monitor.py",
    "hbtd/hsm",
    "hbtd/store/acknowledgements.py",
    "hbtd/store/checkpointer.py",
    "hbtd/store/journal.py",
    "hbtd/store/uncommitted.py",
    "hbtd/replicas",
    "hbtd/access",
)
"""What decides who is dead, keeps that and tells HSM; replicas; and who may do what."""

_CHOSEN = (
    "AddNot",
    "ExceptionReplacer",
    "NumberReplacer",
    "ReplaceAndWithOr",
    "ReplaceBinaryOperator_Add_Sub",
    "ReplaceBinaryOperator_BitAnd_BitOr",
    "ReplaceBinaryOperator_BitOr_BitAnd",
    "ReplaceBinaryOperator_Div_Mul",
    "ReplaceBinaryOperator_FloorDiv_Mul",
    "ReplaceBinaryOperator_Mod_Add",
    "ReplaceBinaryOperator_Mul_Div",
    "ReplaceBinaryOperator_Sub_Add",
    "ReplaceBreakWithContinue",
    "ReplaceComparisonOperator_Eq_NotEq",
    "ReplaceComparisonOperator_GtE_Gt",
    "ReplaceComparisonOperator_Gt_GtE",
    "ReplaceComparisonOperator_IsNot_Is",
    "ReplaceComparisonOperator_Is_IsNot",
    "ReplaceComparisonOperator_LtE_Lt",
    "ReplaceComparisonOperator_Lt_LtE",
    "ReplaceComparisonOperator_NotEq_Eq",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_Delete_USub",
    "ZeroIterationForLoop",
)

_LOGGERS = {"_log", "log"}

_Position = tuple[int, int]
"""Line, from 1, and column, from 0, in bytes for `ast`, in characters for cosmic-ray."""


class Mutant(NamedTuple):
    """A change of one place."""

    path: str
    """The file, as in `hbtd/hsm/outbox.py`."""
    line: int
    column: int
    operator: str
    occurrence: int
    """Which of the operator's mutants of this file, from 0."""

    @property
    def name(self) -> str:
        """What it is called on the command line and in reports."""
        return f"{self.path}:{self.line}:{self.operator}:{self.occurrence}"


class Spans:
    """The places in a source that mutants leave alone, because what is there decides nothing.

    They are heads of functions and classes (annotations, decorators; not defaults), annotations,
    texts (of logs, of exceptions), and assertions, which narrow types. Docstrings are among texts.
    """

    def __init__(self, source: str) -> None:
        """Find them in a module's source; raise `SyntaxError` if it is none."""
        self._left: list[tuple[_Position, _Position]] = []
        self._defaults: list[tuple[_Position, _Position]] = []
        tree = ast.parse(source)
        for node in ast.walk(tree):
            self._visit(node)
        for statement in tree.body:
            value = statement.value if isinstance(statement, ast.Assign) else None
            if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
                self._leave(value)  # the alias of a type

    def _visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node, *node.decorator_list], key=lambda each: each.lineno)
            body = node.body[0]
            self._left.append(((first.lineno, 0), (body.lineno, body.col_offset)))
        if isinstance(node, ast.arguments):
            for default in (*node.defaults, *filter(None, node.kw_defaults)):
                self._defaults.append(_span(default))
        elif isinstance(node, ast.AnnAssign):
            self._leave(node.annotation)
        elif isinstance(node, ast.Assert | ast.JoinedStr | ast.Constant):
            if not isinstance(node, ast.Constant) or isinstance(node.value, str | bytes):
                self._leave(node)
        elif isinstance(node, ast.Call) and _logs(node):
            self._leave(node)

    def _leave(self, node: ast.AST) -> None:
        self._left.append(_span(node))

    def contain(self, start: _Position) -> bool:
        """Say whether a position is in one of them."""
        if any(first <= start < end for first, end in self._defaults):
            return False
        return any(first <= start < end for first, end in self._left)


def _span(node: Any) -> tuple[_Position, _Position]:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _logs(call: ast.Call) -> bool:
    """Say whether a call is one of a `Logger`."""
    function = call.func
    if not isinstance(function, ast.Attribute):
        return False
    target = function.value
    name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
    return name in _LOGGERS


def _operators() -> dict[str, Callable[[], Any]]:
    """Return the operators by name."""
    # Its other modules can be imported only after it.
    import parso.python.tree  # noqa: F401
    from cosmic_ray.operators import provider

    from tests.mutation.leave_out import LeaveOut

    known = provider.OperatorProvider()
    return {**{name: known[name] for name in _CHOSEN}, "LeaveOut": LeaveOut}


def files(checkout: Path, chosen: list[str]) -> list[str]:
    """Return the files of the scope, or those that are chosen or are in chosen folders."""
    found = []
    for each in chosen or SCOPE:
        path = checkout / each
        paths = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        found += [str(one.relative_to(checkout)) for one in paths]
    return found


def mutants(checkout: Path, path: str) -> Iterator[Mutant]:
    """Yield all mutants of a file."""
    from cosmic_ray.ast import ast_nodes, get_ast

    source = (checkout / path).read_text()
    left, tree = Spans(source), get_ast(source)
    for name, operator in _operators().items():
        instance = operator()
        starts = [
            start for node in ast_nodes(tree) for start, _ in instance.mutation_positions(node)
        ]
        for occurrence, start in enumerate(starts):
            if not left.contain(start):
                yield Mutant(path, start[0], start[1], name, occurrence)


def sample(found: list[Mutant], seed: int, count: int) -> list[Mutant]:
    """Return some mutants, the same for the same seed, in the order of files."""
    return sorted(Random(seed).sample(sorted(found), min(count, len(found))))


def mutated(checkout: Path, mutant: Mutant) -> str:
    """Return the source of a mutant's file as the mutant has it."""
    from cosmic_ray.mutating import mutate_code

    operator = _operators()[mutant.operator]()
    code = mutate_code((checkout / mutant.path).read_text(), operator, mutant.occurrence)
    if code is None:
        raise ValueError(f"there is no mutant {mutant.name}")
    return str(code)
