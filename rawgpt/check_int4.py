"""The doctor's look at 4-bit models on the CPU: which backend `auto` takes here. It compiles nothing."""

from collections.abc import Iterator

from rawgpt.check import Check


def check_int4() -> Iterator[Check]:
    """Name the instruction set, the compiler and whether the kernel is compiled already."""
    from gpt.kernels.compiled import compiler, instruction_set, is_whole, library_path

    try:
        target = instruction_set()
        name, _ = compiler()
        state = "compiled" if is_whole(library_path(target)) else "compiled on first use, some seconds"
    except ValueError as error:
        detail = f"torch's operator or the reference: {str(error).removeprefix('int4_backend: ')}"
        yield Check(name="int4 on the CPU", status="warn", detail=detail)
        return
    yield Check(name="int4 on the CPU", status="ok", detail=f"c, {target}, {name}, {state}")
