"""Which weights of a recogniser are trained: what its methods and its fusion own, declared when it is built.

Whether a weight requires gradients says only what the next step will change. Stages of a training, `freeze()` and
callbacks turn that on and off, and none of them makes a trained weight one that a checkpoint could leave out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmfuse.encoders.tower import Tower
from mmfuse.errors import MmfuseError

PARTS = ("image", "text", "fusion")


class TrainedWeights:
    """The trained weights of a recogniser, by part.

    A weight inside a tower is trained where the method says so that was attached to it. All that is outside the
    towers is trained, but for what a method or the fusion keeps fixed; what a subclass adds counts as the fusion's.

    Args:
        towers: towers by part, "image" and "text", with their methods attached.
        methods: their methods, by part.
        fusion: the fusion.
    """

    def __init__(self, *, towers: Mapping[str, nn.Module], methods: Mapping[str, nn.Module], fusion: nn.Module) -> None:
        self._declared = {part: frozenset(_names(tower, trained=True)) for part, tower in towers.items()}
        self._fixed = {part: frozenset(_names(method, trained=False)) for part, method in methods.items()}
        self._fixed["fusion"] = frozenset(_names(fusion, trained=False))

    def parameters(self, model: nn.Module) -> dict[str, dict[str, nn.Parameter]]:
        """Trained weights by part ("image", "text", "fusion") and by name in the model.

        Args:
            model: the recogniser, with `image_tower`, `image_method`, `text_tower`, `text_method` and `fusion`.
        """
        found: dict[str, dict[str, nn.Parameter]] = {part: {} for part in PARTS}
        places = _places(model)
        for name, parameter in model.named_parameters():
            part, in_tower, own = places.get(id(parameter), ("fusion", False, name))
            if own in self._declared[part] if in_tower else own not in self._fixed[part]:
                found[part][name] = parameter
        return found

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """The trained weights by name, and the buffers that go with them: all of the state but the frozen towers.

        A weight that several modules share, such as a bank of vectors of all layers, is in it once.
        """
        left_out = self.frozen_names(model)
        named = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
        return {name: value for name, value in model.state_dict().items() if name in named and name not in left_out}

    def frozen_names(self, model: nn.Module) -> set[str]:
        """Names, in the model's state, of all that training leaves alone and that can be had without a checkpoint."""
        trained = {id(weight) for part in self.parameters(model).values() for weight in part.values()}
        # Under all their names: modules share frozen matrices, and each that has one has it in its state.
        frozen = {name for name, weight in model.named_parameters(remove_duplicate=False) if id(weight) not in trained}
        for side in ("image", "text"):
            buffers = getattr(model, f"{side}_tower").named_buffers(remove_duplicate=False)
            frozen |= {f"{side}_tower.{name}" for name, _ in buffers}
        return frozen - self._kept(model)

    def _kept(self, model: Any) -> set[str]:
        """Names of what methods have inserted frozen, and cannot make again on every machine."""
        kept: set[int] = set()
        for method in (model.image_method, model.text_method):
            for module in method.inserted if method.keeps_frozen else ():
                pretrained = set(map(id, module.get_base_layer().state_dict(keep_vars=True).values()))
                kept |= set(map(id, module.state_dict(keep_vars=True).values())) - pretrained
        return {name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in kept}

    def refuse_undeclared(self, model: nn.Module) -> None:
        """Refuse to train what no checkpoint would hold.

        Raises:
            MmfuseError: a frozen weight requires gradients, such as after `requires_grad_()` on a tower, or with
                layers of peft that were put into it by hand.
        """
        frozen = self.frozen_names(model)
        wanted = [name for name, weight in model.named_parameters() if weight.requires_grad and name in frozen]
        if wanted:
            more = f" and {len(wanted) - 1} more" if len(wanted) > 1 else ""
            raise MmfuseError(
                f"{wanted[0]}{more} would be trained, but belongs to no method: a tower is changed through its method, "
                'such as "full" for all its weights or {"method": "peft", "type": ...} for any layer of peft; '
                "model.unfreeze() trains what the methods and the fusion own, and nothing else"
            )


def refuse_trainable(tower: Tower) -> None:
    """Refuse a tower that is not frozen before a method is attached to it.

    Raises:
        MmfuseError: naming the first weight that requires gradients.
    """
    if tower.adapted_by not in {None, "frozen"}:
        return  # it carries a method, which is refused in other words
    trainable = _names(tower, trained=True)
    if trainable:
        raise MmfuseError(
            f"the {tower.kind} tower {tower.name!r} is not frozen: {trainable[0]} requires gradients; a tower is "
            'trained through a method, such as "full" for all its weights or {"method": "peft", "type": ...} for any '
            "layer of peft; to leave it as it is, call requires_grad_(False) on it"
        )


def _names(module: nn.Module, *, trained: bool) -> list[str]:
    return [name for name, weight in module.named_parameters() if weight.requires_grad is trained]


def _places(model: nn.Module) -> dict[int, tuple[str, bool, str]]:
    """Part, whether it is inside the tower, and name in that module, of the weights of towers, methods and fusion."""
    found: dict[int, tuple[str, bool, str]] = {}
    modules = {"image_method": "image", "text_method": "text", "image_tower": "image", "text_tower": "text"}
    for attribute, part in {**modules, "fusion": "fusion"}.items():
        for name, parameter in getattr(model, attribute).named_parameters():
            found[id(parameter)] = (part, attribute.endswith("tower"), name)
    return found
