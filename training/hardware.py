"""What a run computes on, found out by itself: device, precision, threads."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.analyzer import choose_device, choose_dtype
from training.errors import CannotTrain


@dataclass(frozen=True, slots=True)
class Hardware:
    """A device and the type in which it computes fastest; weights stay float32."""

    device: torch.device
    dtype: torch.dtype

    @staticmethod
    def find(device: str = "auto") -> Hardware:
        """Take a GPU where there is one, bfloat16 where the processor computes with it."""
        chosen = choose_device(device)
        return Hardware(chosen, choose_dtype(chosen))

    @staticmethod
    def repeatable(device: str = "auto") -> Hardware:
        """Find what a training computes on, and have cuDNN add up in the same order each time.

        Its fastest algorithms have an order of their own. Not all of CUDA obeys: the gradients of regions
        (`MultiScaleRoIAlign`) are added up as they come.

        Raises
        ------
        CannotTrain
            There is no such device.
        """
        try:
            on = Hardware.find(device)
            torch.empty(0, device=on.device)
        except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
            raise CannotTrain(f"there is no device {device} to compute on") from error
        torch.backends.cudnn.deterministic = True
        return on

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Compute in the chosen type what may be computed in it."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def place(self, module: nn.Module) -> None:
        """Move a module here; channels last is the order in which the processors' matrix units read."""
        module.to(self.device).to(memory_format=torch.channels_last)

    def images(self, images: Tensor) -> Tensor:
        """Move images (n, channels, rows, columns) here."""
        return images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

    def describe(self) -> dict[str, str | int]:
        """Say what it is, for the run's record."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return {"device": name, "dtype": str(self.dtype).removeprefix("torch."), "threads": torch.get_num_threads()}
