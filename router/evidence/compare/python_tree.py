"""Python code as a syntax tree in canonical form.

Layout, comments, docstrings, annotations of functions, the names of local variables and what stands behind
`if __name__ == "__main__":` do not count.
"""

from __future__ import annotations

import ast
import threading
import warnings

LONGEST = 40_000  # characters; the parser does not let other threads run meanwhile
_PARSING = threading.Lock()  # the filters of `warnings` belong to the process
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
_SAYS_SOMETHING = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
    ast.Assign,
)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Global, ast.Nonlocal)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_Body = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def is_program(text: str) -> bool:
    """Valid Python that defines, imports or assigns something: a word of prose is valid Python too."""
    tree = _parse(text) if "\n" in text.strip() or "=" in text or "(" in text else None
    return tree is not None and any(isinstance(node, _SAYS_SOMETHING) for node in tree.body)


def canonical(code: str) -> str | None:
    """A text that is equal for code of one form; None for what is no Python, or longer than `LONGEST`."""
    tree = _parse(code)
    if tree is None:
        return None
    try:
        return ast.dump(_Canonical().visit(tree))
    except _UNREADABLE:
        return None


def _parse(code: str) -> ast.Module | None:
    if len(code) > LONGEST:
        return None
    with _PARSING, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "invalid escape sequence" is the model's affair
        try:
            return ast.parse(_dedented(code))
        except _UNREADABLE:
            return None


def _dedented(code: str) -> str:
    """A block inside a list is indented as a whole."""
    first = next((line for line in code.split("\n") if line.strip()), "")
    lead = first[: len(first) - len(first.lstrip())]
    if not lead:
        return code
    return "\n".join(line.removeprefix(lead) for line in code.split("\n"))


class _Canonical(ast.NodeTransformer):
    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = [each for each in node.body if not _is_main_guard(each)]
        node.type_ignores = []
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_Import(self, node: ast.Import) -> list[ast.Import]:
        return [ast.Import(names=[name]) for name in sorted(node.names, key=lambda alias: alias.name)]

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        node.type_comment = None
        new = _new_names(node)
        for each in ast.walk(node):
            if isinstance(each, ast.Name):
                each.id = new.get(each.id, each.id)
        return self._without_docstring(node)

    def _without_docstring(self, node: _Body) -> ast.AST:
        if node.body and _is_text(node.body[0]):
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)


def _new_names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, str]:
    """Local variables by their place of birth. Parameters keep their names: callers may use them.

    None where a name may mean two things: with inner scopes, and with names that only a comprehension binds but that
    are read outside it.
    """
    nodes = [each for statement in function.body for each in ast.walk(statement)]
    if any(isinstance(each, _SCOPES) for each in nodes):
        return {}
    inside = {
        id(each) for node in nodes if isinstance(node, _COMPREHENSIONS) for each in ast.walk(node) if each is not node
    }
    names = [each for each in nodes if isinstance(each, ast.Name)]
    parameters = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
    outer = {each.id for each in names if id(each) not in inside}
    born_outside = {each.id for each in names if isinstance(each.ctx, ast.Store) and id(each) not in inside}
    born = dict.fromkeys(each.id for each in names if isinstance(each.ctx, ast.Store))
    movable = [name for name in born if name not in parameters and (name in born_outside or name not in outer)]
    return {name: f"${number}" for number, name in enumerate(movable)}


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_main_guard(node: ast.stmt) -> bool:
    """`if __name__ == "__main__":` shows how the code is used."""
    if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare):
        return False
    return isinstance(node.test.left, ast.Name) and node.test.left.id == "__name__"
