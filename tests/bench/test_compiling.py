"""Cells that compile, one after the other in one process."""

from __future__ import annotations

import torch
from torch import Tensor

from mmfuse.bench.compiling import compiling


# Not by monkeypatch, which deletes attributes of modules that are no entries of their dictionary, and these with them.
@torch._dynamo.config.patch(recompile_limit=2)
def test_each_cell_compiles_from_the_start_and_says_where_torch_gave_up() -> None:
    compiled: list[torch.Size] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        compiled.append(inputs[0].shape)
        return graph

    def double(tensor: Tensor) -> Tensor:
        return 2 * tensor

    run = torch.compile(double, backend=backend, dynamic=False)
    with compiling(True) as told:
        for size in (1, 2):
            run(torch.ones(size + 1))
    assert told == []
    for _ in range(2):  # with the first one's forms kept, there would be no room
        with compiling(True) as told:
            for size in (4, 5, 6):
                assert torch.equal(run(torch.ones(size)), torch.full((size,), 2.0))
        [note] = told
        assert note.startswith("not compiled throughout: ")
        assert "limit" in note
    assert [shape[0] for shape in compiled] == [2, 3, 4, 5, 4, 5]
    torch.compiler.reset()
