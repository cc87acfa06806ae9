"""What is changed in the C++ that torch's compiler writes, before it is compiled: same bits, and sooner."""

from __future__ import annotations

import re

_NESTED = r"[^();]*"
for _ in range(4):  # parentheses in parentheses
    _NESTED = rf"(?:[^();]|\({_NESTED}\))*"
# A load with its length, all that its statement has to the right of it.
_LOADS = re.compile(
    rf"((?:Vectorized<int32_t>|VectorizedN<int64_t, ?2>)::loadu\({_NESTED}), static_cast<int64_t>\((\d+)\)\);"
)

_KERNEL = re.compile(r'extern "C"\s+void\s+kernel\(([^)]*)\)\n\{\n(.*?)^\}\n', re.DOTALL | re.MULTILINE)
_BLOCK = re.compile(r"^    \{\n.*?^    \}\n", re.DOTALL | re.MULTILINE)
_ALIAS = re.compile(r"^    auto (\w+) = \w+;$")
# Divisions of whole numbers by zero are noted here, by way of a pointer, and thrown at the end.
_FLAG = "inductor_cpu_integer_div_error"
_LINES = 400  # of a part: as fast as the whole, and g++ takes no longer than for parts of one block each


def with_plain_loads(source: str, lanes: int) -> str:
    """The same kernel, whole vectors of integers loaded without their length.

    Given a length, also that of a whole vector, integers of torch's vectors of 256 bits are put together in memory first, which
    takes ten times as long.
    """
    return _LOADS.sub(lambda load: load[1] + ");" if int(load[2]) == lanes else load[0], source)


def in_parts(source: str) -> str:
    """The same kernel as functions of some hundred lines each, called one after the other; as it was, if it is short.

    A kernel is one function of up to twelve thousand lines, which g++ needs more than twice as long for. Parts take what they
    use as arguments: behind references, pointers would be loaded again after every store.
    """
    kernel = _KERNEL.search(source)
    if kernel is None or kernel[2].count("\n") <= _LINES:
        return source
    known = [parameter.split()[-1].lstrip("*") for parameter in kernel[1].split(",")]
    parts: list[str] = []
    blocks: list[str] = []

    def end_part() -> None:
        if blocks:
            parts.append(_part("".join(blocks), known))
            blocks.clear()

    at, body = 0, kernel[2]
    while at < len(body):
        if block := _BLOCK.match(body, at):
            blocks.append(block[0])
            if sum(one.count("\n") for one in blocks) > _LINES:
                end_part()
            at = block.end()
            continue
        line, _, _ = body[at:].partition("\n")
        if alias := _ALIAS.match(line):
            known.append(alias[1])
        elif _FLAG not in line:  # something that blocks may use, and that is not known here
            return source
        end_part()
        parts.append(f"{line}\n")
        at += len(line) + 1
    end_part()
    return source[: kernel.start(2)] + "".join(parts) + source[kernel.end(2) :]


def _part(blocks: str, known: list[str]) -> str:
    """Blocks as a function, and a call of it."""
    words = set(re.findall(r"\w+", blocks))
    names = [name for name in known if name in words]
    flag = f"&{_FLAG}" if _FLAG in words else ""
    # Not `auto`: of a type that is not known yet, C++ takes a call of a member template for a comparison.
    parameters = ", ".join(f"decltype({name}) {name}" for name in names)
    return f"    [{flag}]({parameters}) __attribute__((noinline)) {{\n{blocks}    }}({', '.join(names)});\n"
