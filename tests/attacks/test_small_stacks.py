"""
What a sandbox sent is parsed safely whatever the host did to its stack (case 35, from the host's side).

Under a raised recursion limit, or in a thread with a small stack, a parser that recurses overflows it and takes the
host down; so each of these hosts is a process of its own.
"""

from __future__ import annotations

import pytest

from attacks.harness import TESTS
from support import run_python

PROGRAM = """
    import sys, threading
    sys.path.insert(0, sys.argv[1])
    {before}
    from attacks import handlers, init_trouble
    from pyfaas import BadResponse, Runtime, SandboxDied, limits
    from pyfaas._sandbox import protocol

    def attack():
        with Runtime() as runtime:
            for kind in (protocol.VALUE, protocol.ERROR):
                for begin, end in (("[", "]"), ("[[],", "]"), ('{{"a":', "}}"), ("[", "")):
                    most = 6_000_000 if kind == protocol.VALUE else limits.ERROR_BYTES
                    event = {{"payload": begin, "end": end, "kind": kind, "times": most // len(begin + end)}}
                    outcome = runtime.try_invoke(handlers.forges, event)
                    assert type(outcome.error) is BadResponse, outcome
            outcome = runtime.try_invoke(init_trouble.forges_a_fault, None)
            assert type(outcome.error) is SandboxDied, outcome
            for of in ("lists", "dicts", "tuples"):
                event = {{"of": of, "depth": 100_000}}
                outcome = runtime.try_invoke(handlers.returns_a_deep_nest, event)
                assert type(outcome.error) is BadResponse, outcome
                value = runtime.invoke(handlers.returns_a_deep_nest, {{**event, "depth": limits.NESTING}})
                for _ in range(limits.NESTING):
                    value = value["a"] if of == "dicts" else value[0]
                assert value is None
            assert runtime.invoke(handlers.forges, handlers.WORK) == handlers.DONE
        print("unharmed")

    {how}
"""

MAIN = "attack()"
THREAD = "thread = threading.Thread(target=attack); thread.start(); thread.join()"
RECURSION = "sys.setrecursionlimit(10**6)"
STACK = "threading.stack_size(131_072)"


@pytest.mark.parametrize(
    ("before", "how"),
    [(RECURSION, MAIN), (f"{RECURSION}; {STACK}", THREAD), pytest.param(STACK, THREAD, marks=pytest.mark.long)],
    ids=["raised recursion limit", "128 KB stack as well", "128 KB stack"],
)
def test_deep_answers_do_not_crash_the_host(before: str, how: str) -> None:
    told = ("-W", "error", "-W", "ignore:this host does not hold")  # where there are no namespaces
    done = run_python(PROGRAM.format(before=before, how=how), str(TESTS), flags=told)
    assert (done.returncode, done.stdout, done.stderr) == (0, "unharmed\n", "")
