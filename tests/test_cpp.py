"""What is changed in the C++ that torch writes: whole vectors loaded without their length, long kernels in parts."""

from __future__ import annotations

import re

import pytest
import torch
from kernels import agree
from torch import Tensor

from torchgym.engine import program as programs
from torchgym.engine.program import cpp

LOAD = "auto tmp0 = at::vec::Vectorized<int32_t>::loadu(in_ptr0 + static_cast<int64_t>(x1 + 3L*x0){length}){rest}"


@pytest.mark.parametrize("kind", ["Vectorized<int32_t>", "VectorizedN<int64_t,2>", "VectorizedN<int64_t, 2>"])
def test_whole_vectors_are_loaded_without_their_length(kind: str) -> None:
    line = LOAD.replace("Vectorized<int32_t>", kind)
    whole = line.format(length=", static_cast<int64_t>(8)", rest=";")
    assert cpp.with_plain_loads(whole, 8) == line.format(length="", rest=";")
    assert cpp.with_plain_loads(f"{whole}\n{whole}", 8) == "\n".join([line.format(length="", rest=";")] * 2)


@pytest.mark.parametrize(
    ("length", "rest"),
    [
        (", static_cast<int64_t>(8)", " + tmp1;"),  # not all of the statement
        (", static_cast<int64_t>(8)", ".store(out_ptr0, static_cast<int64_t>(8));"),
        (", static_cast<int64_t>(16)", ";"),  # of another length
        (", static_cast<int64_t>(2L)", ";"),
        (" / c10::floor(static_cast<int64_t>(x0), static_cast<int64_t>(8)), static_cast<int64_t>(ks0)", ";"),
        ("", ";"),
    ],
)
def test_other_loads_stay_as_they_are(length: str, rest: str) -> None:
    line = LOAD.format(length=length, rest=rest)
    assert cpp.with_plain_loads(line, 8) == line
    of_bytes = line.replace("int32_t>", "uint8_t>")
    assert cpp.with_plain_loads(of_bytes, 8) == of_bytes


def test_no_whole_vector_of_a_program_has_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch writes them today: were they written otherwise, programs would be slow, and nothing would say so."""
    seen: list[tuple[str, str, int]] = []
    plain = cpp.with_plain_loads

    def kept(source: str, lanes: int) -> str:
        seen.append((source, plain(source, lanes), lanes))
        return seen[-1][1]

    monkeypatch.setattr(cpp, "with_plain_loads", kept)
    example = [torch.arange(4 * 37, dtype=dtype).reshape(4, 37) for dtype in (torch.int32, torch.int64)]
    programs.build(programs.trace(lambda narrow, wide: [narrow + 1, wide + 1], example))
    ((source, changed, lanes),) = seen
    length = f", static_cast<int64_t>({lanes}));"
    assert [line for line in changed.splitlines() if "::loadu(" in line and line.endswith(length)] == []
    assert source.count(length) == changed.count(length) + 2


# --- parts


def kernel(*lines: str) -> str:
    """A kernel whose function has these lines, as torch writes it."""
    body = "".join(f"    {line}\n" for line in lines)
    parameters = "const float* in_ptr0,\n    float* out_ptr0,\n    const int64_t ks0"
    return f'\n#include <x.h>\nextern "C"  void  kernel({parameters})\n{{\n{body}}}\nvoid more() {{\n}}\n'


def block(use: str, lines: int) -> str:
    """A block at the level of the function, of so many lines and two."""
    return "\n".join(["{", *[f"        {use};"] * lines, "    }"])


FLAG = (
    "std::atomic<int> inductor_cpu_integer_div_error{0};",
    "inductor_cpu_integer_div_error_flag = &inductor_cpu_integer_div_error;",
)


def test_a_long_kernel_is_in_parts() -> None:
    alias, divides = "auto out_ptr7 = out_ptr0;", "throw_if(inductor_cpu_integer_div_error)"
    long, short = block("out_ptr7[0] = in_ptr0[ks0]", 500), block("out_ptr0[1]", 3)
    source = kernel(*FLAG, alias, long, short, short, block(divides, 500), f"{divides};")
    assert cpp.in_parts(source) == source.replace(
        f"    {long}\n    {short}\n    {short}\n    {block(divides, 500)}\n",
        "    [](decltype(in_ptr0) in_ptr0, decltype(ks0) ks0, decltype(out_ptr7) out_ptr7) __attribute__((noinline)) {\n"
        f"    {long}\n    }}(in_ptr0, ks0, out_ptr7);\n"
        "    [&inductor_cpu_integer_div_error](decltype(out_ptr0) out_ptr0) __attribute__((noinline)) {\n"
        f"    {short}\n    {short}\n    {block(divides, 500)}\n    }}(out_ptr0);\n",
    )


@pytest.mark.parametrize(
    "source",
    [
        kernel(block("out_ptr0[1]", 3)),  # short
        kernel("float buffer[16];", block("buffer[0]", 500)),  # what blocks may use, and would not be given
        kernel(block("out_ptr0[1]", 500)).replace("kernel(", "other("),
        "",
    ],
)
def test_other_kernels_stay_whole(source: str) -> None:
    assert cpp.in_parts(source) == source


def test_kernels_of_today_are_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch writes them: were they written otherwise, g++ would take twice as long, and nothing would say so."""

    def sums(first: Tensor, count: Tensor, mask: Tensor) -> list[Tensor]:
        results = [mask.to(torch.float32) * 2.0, (mask & (first > 3)).to(torch.float64) + first]
        for at in range(1, 40):
            first = torch.where(first > at, first - at, first) + first.amax(-1, keepdim=True)
            results += [first.amax(-1), (first.to(torch.int64) // count.unsqueeze(-1)).sum(-1)]
        return results

    seen: list[tuple[str, str]] = []
    whole = cpp.in_parts
    monkeypatch.setattr(cpp, "in_parts", lambda source: seen.append((source, whole(source))) or seen[-1][1])
    first = torch.arange(5 * 37, dtype=torch.float64).reshape(5, 37)
    example = [first, torch.arange(1, 6), first % 3 > 1]
    program = programs.build(programs.trace(sums, example, batched=[True] * 3))
    assert any(source.count("\n") > 1_000 for source, _ in seen)
    for source, changed in seen:
        parts = re.split(r"__attribute__\(\(noinline\)\)", changed)
        assert len(parts) > 2
        blocks = max(
            block.count("\n") for block in re.findall(r"^    \{\n.*?^    \}\n", source, re.DOTALL | re.MULTILINE)
        )
        assert max(part.count("\n") for part in parts[:-1]) <= 400 + blocks + 100, source  # 100: before the first
    expected = sums(*example)
    outputs = [torch.full_like(tensor, -7) for tensor in expected]
    program.bind(example, outputs, program.scratch(5))()
    assert agree(outputs, expected)
