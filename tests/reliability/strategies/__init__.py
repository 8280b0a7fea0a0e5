"""Random problems of every operator: `STRATEGIES` has a strategy of cases for each name in the registry."""

from strategies import (
    attention,
    convolution,
    functions,
    losses,
    move,
    normalisation,
    optimisers,
    pooling,
    products,
    recurrent,
)

FAMILIES = {
    "functions of elements, dropout, softmax": functions.STRATEGIES,
    "matrix products, embedding": products.STRATEGIES,
    "convolution": convolution.STRATEGIES,
    "pooling": pooling.STRATEGIES,
    "up-sampling, padding, concatenation": move.STRATEGIES,
    "normalisation": normalisation.STRATEGIES,
    "losses": losses.STRATEGIES,
    "attention": attention.STRATEGIES,
    "recurrent networks": recurrent.STRATEGIES,
    "optimisers, clipping": optimisers.STRATEGIES,
}
STRATEGIES = {name: strategy for family in FAMILIES.values() for name, strategy in family.items()}
