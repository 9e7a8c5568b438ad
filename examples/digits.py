"""Train a small network on handwritten digits with a plain tape loop, and say how it went.

The data are the 1,797 images of 8 by 8 pixels from the UCI repository that scikit-learn ships (Alpaydin and
Kaynak, 1998); a fifth of them is never trained on. The loop is written as for TensorFlow, and undecorated.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from tqdm import tqdm

import numtape as nt

TEST_IMAGES = 360
PARTS = ("train", "test")


class Network:
    """64 pixels, 32 hidden units, 10 classes."""

    def __init__(self, seed):
        # He et al. (2015): a variance of 2 / inputs keeps the scale of activations through a relu.
        self.w1 = nt.Variable(nt.random.normal((64, 32), stddev=(2 / 64) ** 0.5, seed=seed))
        self.b1 = nt.Variable(nt.zeros(32))
        self.w2 = nt.Variable(nt.random.normal((32, 10), stddev=(2 / 32) ** 0.5, seed=seed + 1))
        self.b2 = nt.Variable(nt.zeros(10))
        self.variables = [self.w1, self.b1, self.w2, self.b2]

    def __call__(self, x):
        return nt.nn.relu(x @ self.w1 + self.b1) @ self.w2 + self.b2


def cross_entropy(labels, logits):
    losses = nt.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return nt.reduce_mean(losses)


def main():
    options = parse_options()
    data = load_data()
    x, y = data["train"]
    shuffle = np.random.default_rng(options.seed)
    model = Network(options.seed)
    optimizer = nt.keras.optimizers.Adam(3e-3)

    history, step_seconds = [], []
    progress = tqdm(range(options.epochs), unit="epoch")
    for _ in progress:
        start = time.perf_counter()
        batches = batches_of(shuffle.permutation(len(x)), options.batch)
        for rows in batches:
            with nt.GradientTape() as tape:
                loss = cross_entropy(y[rows], model(x[rows]))
            gradients = tape.gradient(loss, model.variables)
            optimizer.apply_gradients(zip(gradients, model.variables))
        last_loss = float(loss)  # looking at it waits for the last step
        step_seconds.append((time.perf_counter() - start) / len(batches))
        progress.set_postfix(loss=f"{last_loss:.4f}", refresh=False)
        history.append([evaluate(model, *data[part]) for part in PARTS])

    out = draw(np.array(history), options.out)
    report(history[-1][1][1], statistics.median(step_seconds), out)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60, help="passes over the images (%(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="images in a step (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the order (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/digits.png"), help="the picture (%(default)s)")
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error(f"--epochs must be at least 1, got {options.epochs}")
    if not 1 <= options.batch <= 1797 - TEST_IMAGES:
        parser.error(f"--batch must be 1 to {1797 - TEST_IMAGES}, the training images, got {options.batch}")
    return options


def load_data():
    """Pixels from 0 to 1 and labels, for training and for testing; the split never changes."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
    return {"train": (x[train], y[train]), "test": (x[test], y[test])}


def batches_of(order, size):
    """Rows of `size` indices; what is left over waits for the next epoch's order."""
    count = len(order) // size
    return order[: count * size].reshape(count, size)


def evaluate(model, x, y):
    logits = model(x)
    return float(cross_entropy(y, logits)), float(np.mean(logits.numpy().argmax(axis=1) == y))


def draw(history, path):
    """Curves of `history[epoch, part, loss or accuracy]`; returns where the picture is."""
    epochs = np.arange(1, len(history) + 1)
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    panels = figure.subplots(1, 2)
    for k, (panel, title) in enumerate(zip(panels, ("Loss (cross entropy, nats)", "Accuracy"))):
        for part, color, values in zip(PARTS, ("#9a9a9a", "#c2410c"), history[:, :, k].T):
            panel.plot(epochs, values, color=color, linewidth=1.8, marker="o" if len(epochs) == 1 else None)
            panel.plot([], [], color=color, linewidth=1.8, label=f"{part}, at the end {values[-1]:.4f}")
        panel.set_title(title, loc="left", fontsize=11)
        panel.set_xlabel("epoch")
        panel.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    panels[0].set_yscale("log")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path.resolve()


def report(accuracy, seconds, picture):
    stats = nt.cache.stats()
    print(f"test accuracy      {accuracy:.4f}")
    print(f"steps a second     {1 / seconds:,.0f}  ({seconds * 1e6:.1f} µs a step, median of the epochs)")
    print(f"kernels compiled   {stats.compilations}  in {stats.compile_seconds:.2f} s")
    print(f"cache hits         {stats.memory_hits:,} in memory, {stats.disk_hits} on disk")
    print(f"curves             {picture}")


if __name__ == "__main__":
    main()
