# SPDX-License-Identifier: BSD-3-Clause
"""What follows from the sizes of a convolution, for problems and for layers that are measured."""


class ConvSizes:
    """A convolution of maps [height, width]; a subclass has these numbers as fields."""

    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def taps(self) -> int:
        """Taps of the kernel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        sizes = zip(
            (self.height, self.width),
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
            strict=True,
        )
        height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
        return height, width
