"""Find the changes that can be made to a source file. Pure: text in, changes out.

A change has exact positions, so that a report shows the line as it stands. Changes that cannot
matter are left out where that can be told from the source alone: annotations, docstrings, what
stands under TYPE_CHECKING, what is raised, texts with values in them, options of dataclasses.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
}
SEQUENCES = (ast.JoinedStr, ast.List, ast.Tuple)  # the other signs are no operators of theirs
# Calls whose arguments describe types or storage, and do nothing else.
DESCRIBING = {"cast", "dataclass", "field", "lru_cache", "TypeVar"}
SYMMETRIC = {"max", "min", "suppress"}  # calls that take their arguments in any order
SAFEGUARDS = {"strict"}  # keyword arguments that change nothing in a program without bugs
FALSY = (None, False, 0, "", b"")  # where a caller only asks whether it is true, None is the same


@dataclass(frozen=True)
class Mutation:
    """One change: the bytes from `start` to `end` of a file become `text`."""

    kind: str
    line: int
    start: int
    end: int
    text: str

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]


class Finder:
    """Walks one file."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def mutations(self) -> list[Mutation]:
        """Return every change, in the order of the file."""
        found: set[Mutation] = set()
        for node in self._relevant(ast.parse(self._source)):
            for kind in KINDS.values():
                found.update(kind(self, node))
        return sorted(found, key=lambda mutation: (mutation.start, mutation.end, mutation.text))

    def _relevant(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield what can matter: no annotations, docstrings, error messages or type-only code."""
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.JoinedStr):  # on 3.11, what is in it has no positions
            return
        if isinstance(node, ast.keyword) and node.arg in SAFEGUARDS:
            return
        yield node
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns"):
                continue
            if isinstance(node, ast.Raise) and name in ("exc", "cause"):
                continue
            children = value if isinstance(value, list) else [value]
            if isinstance(value, ast.Tuple) and _is_fixed(node, name):
                children = value.elts
            if isinstance(node, ast.Call) and name != "func" and called(node) in DESCRIBING:
                continue
            for child in children:
                if isinstance(child, ast.AST) and not _documents(child):
                    yield from self._relevant(child)

    def start(self, node: ast.expr | ast.stmt) -> int:
        return self._starts[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.expr | ast.stmt) -> str:
        return self.span(self.start(node), self.end(node))

    def span(self, start: int, end: int) -> str:
        return self._source[start:end].decode()

    def replace(self, kind: str, node: ast.expr | ast.stmt, text: str) -> Mutation:
        return Mutation(kind, node.lineno, self.start(node), self.end(node), text)

    def between(
        self, kind: str, left: ast.expr, right: ast.expr, old: str, new: str
    ) -> Iterator[Mutation]:
        """Replace an operator, which has no position of its own, between its operands."""
        begin = self.end(left)
        gap = self.span(begin, self.start(right))
        pattern = r"\s+".join(map(re.escape, old.split()))
        if old[0].isalpha():
            pattern = rf"\b{pattern}\b"
        if match := re.search(pattern, gap):
            start = begin + len(gap[: match.start()].encode())
            end = start + len(match.group().encode())
            line = self._source.count(b"\n", 0, start) + 1
            yield Mutation(kind, line, start, end, new)


def called(call: ast.Call) -> str:
    """Return the last name of what is called: `c` of `a.b.c()`."""
    return ast.unparse(call.func).rsplit(".", 1)[-1]


def _is_fixed(node: ast.AST, name: str) -> bool:
    """Whether a tuple in this place has a number of items that any import or run would notice: of
    a type's parameters, or what is unpacked at once."""
    if isinstance(node, ast.Assign):
        return name == "value" and isinstance(node.targets[0], ast.Tuple)
    return isinstance(node, ast.Subscript) and name == "slice"


def _documents(node: ast.AST) -> bool:
    """Whether it is a docstring or another text that stands for itself, or `...`."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _comparison(file: Finder, node: ast.AST) -> Iterator[Mutation]:
    if isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
            yield from file.between("comparison", left, right, *COMPARISONS[type(operator)])


def _logic(file: Finder, node: ast.AST) -> Iterator[Mutation]:
    """Swap `and` and `or`, where there are two operands: three would need parentheses."""
    if isinstance(node, ast.BoolOp) and len(node.values) == 2:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        yield from file.between("logic", node.values[0], node.values[1], old, new)


def _condition(file: Finder, node: ast.AST) -> Iterator[Mutation]:
    tests = [node.test] if isinstance(node, ast.If | ast.While | ast.IfExp) else []
    if isinstance(node, ast.comprehension):
        tests = node.ifs
    for test in tests:
        if not isinstance(test, ast.Constant | ast.Compare):  # those have a kind of their own
            yield file.replace("condition", test, f"(not ({file.text(test)}))")


def _call(file: Finder, node: ast.AST) -> Iterator[Mutation]:
    """Drop a statement that is only a call."""
    if isinstance(node, ast.Expr):
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(value, ast.Call):
            yield file.replace("call", node, "pass")


def _constant(file: Finder, node: ast.AST) -> Iterator[Mutation]:
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        new = str(not node.value) if isinstance(node.value, bool) else f"{node.value + 1}"
        yield file.replace("constant", node, new)


def _arithmetic(file: Finder, node: ast.AST) -> Iterator[Mutation]:
    if not isinstance(node, ast.BinOp | ast.AugAssign) or type(node.op) not in ARITHMETIC:
        return
    old, new = ARITHMETIC[type(node.op)]
    left, right = (
        (node.left, node.right) if isinstance(node, ast.BinOp) else (node.target, node.value)
    )
    if isinstance(node, ast.AugAssign):
        old, new = f"{old}=", f"{new}="
    if not isinstance(left, SEQUENCES) and not isinstance(right, SEQUENCES):
        yield from file.between("arithmetic", left, right, old, new)


def _return(file: Finder, node: ast.AST) -> Iterator[Mutation]:
    """Return None, or before anything was done."""
    if isinstance(node, ast.Return) and node.value is not None:
        falsy = isinstance(node.value, ast.Constant) and node.value.value in FALSY
        if not falsy:
            yield file.replace("return", node.value, "None")
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        body = [statement for statement in node.body if not _documents(statement)]
        nothing = isinstance(node.returns, ast.Constant) and node.returns.value is None
        if body and nothing and not isinstance(body[0], ast.Pass | ast.Return | ast.Raise):
            first = file.start(body[0])
            decorators: list[ast.expr] = getattr(body[0], "decorator_list", [])
            if not decorators and body[0].lineno != node.lineno:
                indent = " " * body[0].col_offset
                yield Mutation("return", body[0].lineno, first, first, f"return\n{indent}")


def _await(file: Finder, node: ast.AST) -> Iterator[Mutation]:
    if isinstance(node, ast.Await):
        yield file.replace("await", node, file.text(node.value))


def _arguments(file: Finder, node: ast.AST) -> Iterator[Mutation]:
    """Swap two neighbours of the same kind."""
    if isinstance(node, ast.Call) and called(node) not in SYMMETRIC:
        for left, right in zip(node.args, node.args[1:], strict=False):
            if type(left) is type(right) and isinstance(left, ast.Name | ast.Attribute):
                text = f"{file.text(right)}, {file.text(left)}"
                start, end = file.start(left), file.end(right)
                yield Mutation("arguments", left.lineno, start, end, text)


def _row(file: Finder, node: ast.AST) -> Iterator[Mutation]:
    """Delete a row of a table: a dict, set, list or tuple of at least two rows."""
    rows: list[tuple[int, int, int]] = []  # line, start and end
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            first = key or value
            rows.append((first.lineno, file.start(first), file.end(value)))
    elif isinstance(node, ast.Set | ast.List | ast.Tuple):
        rows = [(item.lineno, file.start(item), file.end(item)) for item in node.elts]
    if len(rows) < 2 or isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):
        return
    comma = "," if isinstance(node, ast.Tuple) and len(rows) == 2 else ""
    for (line, start, _), (_, _, end), kept in zip(rows, rows[1:], rows[1:], strict=False):
        yield Mutation("row", line, start, end, file.span(kept[1], kept[2]) + comma)
    (_, start, end), (line, _, last) = rows[-2:]
    yield Mutation("row", line, start, last, file.span(start, end) + comma)


KINDS: dict[str, Callable[[Finder, ast.AST], Iterator[Mutation]]] = {
    "comparison": _comparison,
    "logic": _logic,
    "condition": _condition,
    "call": _call,
    "constant": _constant,
    "arithmetic": _arithmetic,
    "return": _return,
    "await": _await,
    "arguments": _arguments,
    "row": _row,
}


def find(source: bytes) -> list[Mutation]:
    """Return every change that can be made to a file."""
    return Finder(source).mutations()


def changes(source: bytes, mutation: Mutation) -> bool:
    """Whether a change makes another valid program. A comment can hold what looks like an operator,
    and operands can stand in parentheses, whose positions a syntax tree does not have."""
    try:
        changed = ast.parse(mutation.apply(source))
    except SyntaxError:
        return False
    return ast.dump(changed) != ast.dump(ast.parse(source))
