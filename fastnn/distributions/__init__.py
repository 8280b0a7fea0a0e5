"""Probability distributions, with torch.distributions' names and arguments.

    normal = Normal(loc=0.0, scale=np.array([1.0, 2.0]))
    normal.log_prob(0.5)  # (2,)
    x = normal.sample(1000)  # (1000, 2), the same after the same fastnn.manual_seed
    kl_divergence(normal, Normal(1.0, 1.0))  # (2,)

Parameters are numbers, arrays or Tensors, and broadcast to `batch_shape`. Results are Tensors, through which gradients
go to parameters and values, if one of these is a Tensor, else NumPy's arrays or numbers. They are float32 if all arrays
are, else float64. A value outside of the support has log_prob -inf, NaN has NaN. Formulas are those of Johnson, Kotz
and Balakrishnan 1994, "Continuous univariate distributions", and Johnson, Kotz and Kemp 1992, "Univariate discrete
distributions".
"""

from fastnn.distributions.base import Distribution, kl_divergence, sample_mean, sample_variance
from fastnn.distributions.continuous import Beta, Exponential, Normal, Uniform
from fastnn.distributions.discrete import Bernoulli, Binomial, Poisson

__all__ = [
    "Bernoulli",
    "Beta",
    "Binomial",
    "Distribution",
    "Exponential",
    "Normal",
    "Poisson",
    "Uniform",
    "kl_divergence",
    "sample_mean",
    "sample_variance",
]
