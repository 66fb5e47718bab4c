"""Python code as a syntax tree in canonical form.

Layout, comments, docstrings, annotations of functions, the names of local variables, whether a module or a name of it
is imported, and what stands behind `if __name__ == "__main__":` do not count; unless the request asks for annotations
(they are compared) or docstrings (that there is one).
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


def canonical(code: str, annotations: bool = False, docstrings: bool = False) -> str | None:
    """A text that is equal for code of one form; None for what is no Python, or longer than `LONGEST`."""
    tree = _parse(code)
    if tree is None:
        return None
    try:
        return ast.dump(_Canonical(annotations, docstrings).visit(tree))
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
    def __init__(self, annotations: bool, docstrings: bool) -> None:
        self.annotations, self.docstrings = annotations, docstrings
        self.imported: dict[str, str] = {}

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = [each for each in node.body if not _is_main_guard(each)]
        node.type_ignores = []
        self.imported, modules = _imported(node)
        if self.imported:
            node.body = [each for each in node.body if not _is_plain_import(each)]
        self._without_docstring(node)
        node.body[:0] = [ast.Import(names=[ast.alias(name=name)]) for name in sorted(modules)]
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A name that was imported, by its whole path."""
        path = self.imported.get(node.id)
        return ast.Name(id=path, ctx=node.ctx) if path else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id.split(".")[0] in self.imported.values():
            return ast.Name(id=f"{node.value.id}.{node.attr}", ctx=node.ctx)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        if not self.annotations:
            node.annotation = None
        return self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> list[ast.Import]:
        return [ast.Import(names=[name]) for name in sorted(node.names, key=lambda alias: alias.name)]

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if not self.annotations:
            node.returns = None
        node.type_comment = None
        new = _new_names(node)
        for each in ast.walk(node):
            if isinstance(each, ast.Name):
                each.id = new.get(each.id, each.id)
        return self._without_docstring(node)

    def _without_docstring(self, node: _Body) -> ast.AST:
        if node.body and _is_text(node.body[0]):
            kept = [ast.Expr(ast.Constant("documented"))] if self.docstrings else []
            node.body = [*kept, *(node.body[1:] or [ast.Pass()])]
        return self.generic_visit(node)


def _imported(module: ast.Module) -> tuple[dict[str, str], set[str]]:
    """The path behind each name that the module imports, and the modules; none where a name means anything else too."""
    plain = [statement for statement in module.body if _is_plain_import(statement)]
    paths: list[tuple[str, str]] = []
    modules: set[str] = set()
    for statement in plain:
        match statement:
            case ast.Import(names=aliases):
                modules.update(alias.name for alias in aliases)
                paths += [(alias.asname or alias.name, alias.name) for alias in aliases]
            case ast.ImportFrom(module=source, names=aliases):
                modules.add(str(source))
                paths += [(alias.asname or alias.name, f"{source}.{alias.name}") for alias in aliases]
    known = {id(statement) for statement in plain}
    bound = {name for node in ast.walk(module) if id(node) not in known for name in _binds(node)}
    names = dict(paths)
    return ({}, set()) if bound & names.keys() or len(names) < len(paths) else (names, modules)


def _is_plain_import(node: ast.stmt) -> bool:
    """From another package, by name; `import a.b` binds `a`, and is left as it is."""
    match node:
        case ast.Import(names=aliases):
            return all("." not in alias.name or alias.asname for alias in aliases)
        case ast.ImportFrom(module=source, names=aliases, level=0):
            return source != "__future__" and all(alias.name != "*" for alias in aliases)
    return False


def _binds(node: ast.AST) -> tuple[str, ...]:
    """The names that a node gives a meaning to."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return (name,)
        case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return (name,)
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return (name,)
        case ast.MatchMapping(rest=str(name)):
            return (name,)
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return tuple(alias.asname or alias.name.split(".")[0] for alias in aliases)
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return tuple(names)
    return ()


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
