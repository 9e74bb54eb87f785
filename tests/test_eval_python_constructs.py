"""Python code that swallows errors, and that code without what does."""

import pytest

from devnull.eval.suppression.constructs import remove_constructs
from devnull.eval.suppression.python_constructs import find_python_constructs
from devnull.eval.suppression.shell_constructs import find_constructs


def test_python_without_its_silencers_is_still_python() -> None:
    """Also between single quotes: nothing put in their place holds a quote."""
    code = "with redirect_stderr(x), suppress(E): subprocess.getoutput(c); os.dup2(n, 2); run(a, stderr=PIPE)"
    bare = remove_constructs(f"python3 -c '{code}'", find_constructs(f"python3 -c '{code}'"))
    inside = bare.removeprefix("python3 -c '").removesuffix("'")
    compile(inside, "", "exec")
    assert not set("'\"") & set(inside) and "PIPE" not in inside and "dup2" not in inside


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("try: x()\nexcept: pass", 1),
        ("try: x()\nexcept Exception as e:\n    y = 1", 1),
        ("try: x()\nexcept Exception as e:\n    print(e)", 0),
        ("try: x()\nexcept Exception:\n    raise", 0),
        ("try: x()\nexcept Exception:\n    sys.exit(0)", 1),
        ("try: x()\nexcept Exception:\n    sys.exit(1)", 0),
        ("run(a, stderr=DEVNULL)", 1),
        ("run(a, capture_output=True)", 1),
        ("run(a, stderr=open('/dev/null'))", 1),
        ("run(a, stdout=DEVNULL, stderr=STDOUT)", 2),
        ("run(a, **{'stderr': DEVNULL})", 1),
        ("how = {'stderr': DEVNULL}", 1),
        ("how['stderr'] = DEVNULL", 1),
        ("found = {'stderr': p.stderr}", 0),
        ("Popen(a, -1, None, None, None, DEVNULL)", 1),
        ("run(a, stdout=PIPE)", 1),
        ("p = run(a, stdout=PIPE); print(p.returncode)", 1),
        ("p = run(a, stdout=PIPE); print(p.stdout)", 0),
        ("check_output(a)", 1),
        ("print(check_output(a))", 0),
        ("run(['bash', '-c', x])", 1),
        ("run(['ls', '-c', x])", 0),
        ("os.popen('a ' '2>&1')", 1),
        ("run(a, stderr=None)", 0),
        ("run(a, stderr=sys.stderr)", 0),
        ("try: import a\nexcept ImportError: import b as a", 0),
        ("os.dup2(null, 2)", 1),
        ("os.dup2(a, b)", 0),
        ("sys.stderr.close()", 1),
        ("file.close()", 0),
        ("subprocess.getoutput('a')", 1),
        ("eval(x)", 1),
        ("os.system(x)", 1),
        ("os.system(f'make {x}')", 1),
        ("for c in ['a', 'b']: os.system(c)", 0),
        ("sys.stderr = open('/dev/null', 'w')", 1),
        ("os.system('make 2>/dev/null')", 1),
        ("not python (", 0),
    ],
)
def test_python_that_swallows_errors(code: str, found: int) -> None:
    assert len(list(find_python_constructs(code))) == found
