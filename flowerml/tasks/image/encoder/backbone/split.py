"""A backbone cut in front of a block: what is before, whose results can be cached, and what is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from flowerml.core.display import one_line
from flowerml.core.errors import ModelError

BATCHES = (2, 3)  # sizes by which numbers that depend on the size of a batch are recognized


@dataclass(frozen=True)
class Split:
    """Pictures -> `front` -> activations [B, *shape] -> `tail` -> features [B, D].

    Both share the modules of the backbone, under the same names, so their weights fit into it.
    """

    front: nn.Module
    tail: nn.Module
    shape: tuple[int, ...]


def split(
    module: nn.Module, blocks: Sequence[str], count: int | Literal["all"], *, size: tuple[int, int], name: str
) -> Split:
    """Cut a backbone, called `name` in errors, in front of its last `count` blocks; it is not copied.

    Only the modules around the blocks are traced by torch.fx, so what the blocks do inside does not matter. Raises
    ModelError where more than one tensor leads from the frozen blocks to the others, and where tracing fails.
    """
    if count == "all" or not 0 < count <= len(blocks):
        raise _impossible(name, f"expected 1 to {len(blocks)} trained blocks, found {count}")
    block = blocks[len(blocks) - count]
    mode = {child: child.training for child in module.modules()}
    try:
        root = module.eval()
        graph = _Tracer(blocks).trace(root)
        front, tail = _cut(root, graph, block, size)
        with torch.inference_mode():
            activations = front(_pictures(root, 1, size))
            tail(activations)
    except _UncutError as error:
        raise _impossible(name, str(error)) from None
    # Tracing fails in many ways where the code around the blocks depends on values.
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise _impossible(name, one_line(error, 120)) from None
    finally:
        for child, training in mode.items():
            child.training = training
    return Split(front, tail, tuple(activations.shape[1:]))


class _UncutError(Exception):
    """A network that cannot be cut at a block."""


class _Tracer(fx.Tracer):
    """Traces what is around the blocks: all modules in which no block lies are single calls."""

    def __init__(self, blocks: Sequence[str]) -> None:
        super().__init__()
        self._around = {".".join(block.split(".")[:depth]) for block in blocks for depth in range(block.count(".") + 1)}

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self._around


def _cut(root: nn.Module, graph: fx.Graph, block: str, size: tuple[int, int]) -> tuple[nn.Module, nn.Module]:
    for node in list(graph.nodes):
        if node.target is torch._assert and not node.users:
            graph.erase_node(node)  # of sizes; they would be taken for a use of the pictures
    nodes = list(graph.nodes)
    first = next((number for number, node in enumerate(nodes) if _is_in(node, block)), None)
    if first is None:
        raise _UncutError(f"{block} is not called by itself")
    picture = next(node for node in nodes if node.op == "placeholder")
    values = [_values(root, graph, batch, size) for batch in BATCHES]
    after = set(nodes[first:])
    crossing = [node for node in nodes[:first] if _depends(node, picture) and after.intersection(node.users)]
    tensors = [node for node in crossing if isinstance(values[0][node], Tensor)]
    if len(tensors) != 1:
        raise _UncutError(f"{len(tensors)} tensors lead to {block}")
    front = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    front.graph_copy(graph, copies)
    front.output(copies[tensors[0]])
    return _module(root, front), _module(root, _tail(graph, tensors[0], crossing, after, values))


def _tail(
    graph: fx.Graph,
    cut: fx.Node,
    crossing: Sequence[fx.Node],
    after: set[fx.Node],
    values: Sequence[dict[fx.Node, Any]],
) -> fx.Graph:
    """Return the graph with its input at `cut`; numbers that cross too are constants, or the size of the batch."""
    with graph.inserting_before(cut.next):
        activations = graph.placeholder("activations")
    cut.replace_all_uses_with(activations, lambda user: user in after)
    for node in crossing:
        if node is cut:
            continue
        found = [value[node] for value in values]
        if found[0] == found[1]:
            replacement: Any = found[0]
        elif found == list(BATCHES):
            with graph.inserting_after(activations):
                replacement = graph.call_method("size", (activations, 0))
        else:
            raise _UncutError(f"{node.name} depends on the pictures")
        for user in list(node.users):
            if user in after:
                user.args = fx.node.map_arg(user.args, lambda arg: replacement if arg is node else arg)  # noqa: B023
                user.kwargs = fx.node.map_arg(user.kwargs, lambda arg: replacement if arg is node else arg)  # noqa: B023
    graph.eliminate_dead_code(_is_end)
    for node in list(graph.nodes):
        if node.op == "placeholder" and node is not activations:
            if node.users:
                raise _UncutError("what follows reads the pictures too")
            graph.erase_node(node)
    return graph


def _module(root: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    graph.eliminate_dead_code(_is_end)
    graph.lint()
    return fx.GraphModule(root, graph)


def _values(root: nn.Module, graph: fx.Graph, batch: int, size: tuple[int, int]) -> dict[fx.Node, Any]:
    """Return what each node gives for black pictures."""
    recorded: dict[fx.Node, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            recorded[n] = super().run_node(n)
            return recorded[n]

    with torch.inference_mode():
        Recorder(fx.GraphModule(root, graph), graph=graph).run(_pictures(root, batch, size))
    return recorded


def _pictures(root: nn.Module, batch: int, size: tuple[int, int]) -> Tensor:
    parameter = next(root.parameters())
    return torch.zeros(batch, 3, *size, dtype=parameter.dtype, device=parameter.device)


def _is_end(node: fx.Node) -> bool:
    return node.op in ("placeholder", "output")


def _is_in(node: fx.Node, block: str) -> bool:
    return node.op == "call_module" and f"{node.target}.".startswith(f"{block}.")


def _depends(node: fx.Node, source: fx.Node) -> bool:
    """Return whether a node's value depends on that of `source`."""
    waiting, seen = [node], set()
    while waiting:
        current = waiting.pop()
        if current is source:
            return True
        if current not in seen:
            seen.add(current)
            waiting.extend(current.all_input_nodes)
    return False


def _impossible(name: str, reason: str) -> ModelError:
    return ModelError(
        f"encode.cache: the activations of {name} cannot be cached ({reason}); set it to pictures, or "
        "encode.trainable_blocks to another number"
    )
