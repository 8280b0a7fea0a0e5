"""Which values of a program follow from the shapes of its inputs alone, and which have shapes that do."""

__all__ = ["RANDOM", "Dependence"]

RANDOM = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout")
)
"""Operators that may draw numbers."""
SHAPE = frozenset(("Shape", "Size"))
"""Operators that read shapes only."""
SIZES = {
    "AffineGrid": (1,), "BlackmanWindow": (0,), "CenterCropPad": (1,), "Col2Im": (1, 2), "ConstantOfShape": (0,),
    "DFT": (1, 2), "Expand": (1,), "HammingWindow": (0,), "HannWindow": (0,), "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4), "OneHot": (1,), "Pad": (1, 3), "Range": (0, 1, 2), "Reshape": (1,),
    "Resize": (1, 2, 3), "STFT": (1, 2, 3), "Slice": (1, 2, 3, 4), "Split": (1,), "Squeeze": (1,), "Tile": (1,),
    "TopK": (1,), "Unsqueeze": (1,), "Upsample": (1,),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
                     "ReduceProd", "ReduceSum", "ReduceSumSquare"), (1,)),
}  # fmt: skip
"""Inputs by whose values a result's shape is determined."""
UNFORESEEN = frozenset(
    ("Compress", "If", "ImageDecoder", "Loop", "NonMaxSuppression", "NonZero", "Scan", "StringSplit", "Unique")
)
"""Operators whose results may have any shape; so have those on sequences and optional values."""


class Dependence:
    """known: slots whose values depend on the shapes of the inputs alone; static: those whose shapes do."""

    def __init__(self, program):
        self.known = set(program.constants)
        self.static = {0, *program.inputs, *program.constants}
        for step in program.steps:
            node, sources = step.node, set(step.sources) - {0}
            foreseen = (
                node.domain in ("", "fastnn")
                and node.op not in UNFORESEEN
                and not node.op.startswith(("Sequence", "Optional"))
                and node.op not in ("ConcatFromSequence", "SplitToSequence")
            )
            sizes = {step.sources[i] for i in SIZES.get(node.op, ()) if i < len(step.sources)} - {0}
            if foreseen and sources <= self.static and sizes <= self.known:
                self.static.update(step.targets)
                read = set() if node.op in SHAPE else sources
                if read <= self.known and node.op not in RANDOM:
                    self.known.update(filter(None, step.targets))
