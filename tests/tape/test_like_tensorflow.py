"""Small programs as TensorFlow runs them: with another import alone they give what is written down here.

The values were computed by TensorFlow 2.21 and Keras 3.15.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numtape as nt
from tests.tape.checks import same


def values_and_gradients(f: Callable[..., Any], *arrays: Any) -> list[Any]:
    """What `f` gives for Variables, then its gradients."""
    variables = [nt.Variable(np.asarray(a, np.float32)) for a in arrays]
    with nt.GradientTape() as tape:
        y = f(*variables)
    return [y, *tape.gradient(y, variables)]


def wave(*shape: int) -> Any:
    return np.sin(np.arange(math.prod(shape), dtype=np.float64)).reshape(shape).astype(np.float32)


def recurrent_cell() -> list[Any]:
    x = nt.constant(wave(2, 2))

    def loss(weights: Any) -> Any:
        h = c = nt.zeros([2, 1])
        for _ in range(3):
            i, f, g, o = nt.split(nt.concat([x, h], 1) @ weights, 4, axis=1)
            c = nt.sigmoid(f) * c + nt.sigmoid(i) * nt.tanh(g)
            h = nt.sigmoid(o) * nt.tanh(c)
        return nt.reduce_sum(h * h)

    return values_and_gradients(loss, wave(3, 4))


def layer_norm() -> list[Any]:
    def loss(x: Any) -> Any:
        mean, variance = nt.nn.moments(x, [1], keepdims=True)
        return nt.reduce_sum(((x - mean) * nt.math.rsqrt(variance + 1e-3)) ** 3)

    return values_and_gradients(loss, wave(2, 3))


def masked_attention() -> list[Any]:
    mask = nt.linalg.band_part(nt.ones([3, 3]), -1, 0)

    def loss(q: Any) -> Any:
        scores = nt.matmul(q, q, transpose_b=True) / nt.sqrt(nt.cast(nt.shape(q)[-1], nt.float32))
        return nt.reduce_sum((nt.nn.softmax(nt.where(mask > 0, scores, -1e9)) @ q) ** 2)

    return values_and_gradients(loss, wave(1, 3, 2))


def distances_without_the_diagonal() -> list[Any]:
    def loss(x: Any) -> Any:
        apart = x[:, None, :] - x[None, :, :]
        lengths = nt.sqrt(nt.reduce_sum(apart**2, axis=-1))
        return nt.reduce_sum(nt.where(nt.eye(3) > 0, 0.0, lengths))

    return values_and_gradients(loss, [[1.0, 2.0], [3.0, 5.0], [4.0, 4.0]])


def cosine_similarity() -> list[Any]:
    return values_and_gradients(
        lambda a, b: nt.reduce_sum(nt.nn.l2_normalize(a, 0) * nt.nn.l2_normalize(b, 0)), [1, 2, 3], [2, -1, 0.5]
    )


def kl_divergence() -> list[Any]:
    p = nt.nn.softmax(nt.constant([0.1, 0.2, 0.7]))
    return values_and_gradients(
        lambda logits: nt.reduce_sum(p * (nt.math.log(p) - nt.nn.log_softmax(logits))), [0.3, 0.3, 0.1]
    )


def softmax_regression() -> list[Any]:
    x, labels = nt.constant(wave(4, 3)), nt.constant([0, 1, 2, 1])

    def loss(w: Any, b: Any) -> Any:
        logits = nt.matmul(x, w) + b
        rows = nt.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return nt.reduce_mean(rows) + 0.01 * nt.nn.l2_loss(w)

    return values_and_gradients(loss, wave(3, 3), np.zeros(3))


def gradient_penalty() -> list[Any]:
    x = nt.constant([[0.3, 1.3], [2.2, 1.0]])

    def penalty(w: Any) -> Any:
        with nt.GradientTape() as inner:
            inner.watch(x)
            y = nt.nn.tanh(x @ w)
        g = inner.gradient(y, x)
        return nt.reduce_mean((nt.sqrt(nt.reduce_sum(nt.square(g), axis=1)) - 1.0) ** 2)

    return values_and_gradients(penalty, [[0.5], [-0.3]])


def differential_equation() -> list[Any]:
    x = nt.constant(np.linspace(0, 1, 5).reshape(5, 1).astype("f4"))

    def residual(w1: Any, w2: Any) -> Any:
        with nt.GradientTape() as second:
            second.watch(x)
            with nt.GradientTape() as first:
                first.watch(x)
                u = nt.tanh(x @ w1) @ w2
            slope = first.gradient(u, x)
        return nt.reduce_mean((second.gradient(slope, x) + u) ** 2)

    return values_and_gradients(residual, [[-1.0, 0.5]], [[1.0], [-0.5]])


def learning_to_learn() -> list[Any]:
    def after_a_step(w: Any) -> Any:
        with nt.GradientTape() as inner:
            inner.watch(w)
            loss = nt.reduce_sum((w - 1.0) ** 4)
        return nt.reduce_sum((w - 0.1 * inner.gradient(loss, w)) ** 2)

    return values_and_gradients(after_a_step, [1.5, 3.0])


def newton_steps() -> list[Any]:
    x, labels = nt.constant(wave(8, 2)), nt.constant([0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    w = nt.Variable([0.0, 0.0])
    for _ in range(3):
        with nt.GradientTape() as outer:
            with nt.GradientTape() as inner:
                rows = nt.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=nt.linalg.matvec(x, w))
                loss = nt.reduce_mean(rows) + 0.1 * nt.reduce_sum(w**2)
            g = inner.gradient(loss, w)
        hessian = outer.jacobian(g, w)
        w.assign_sub(nt.squeeze(nt.linalg.solve(hessian, g[:, None]), -1))
    return [w, loss, hessian]


def accumulated_gradients() -> list[Any]:
    v = nt.Variable([1.0, 2.0])
    total = [nt.zeros_like(v)]
    for k in range(3):
        with nt.GradientTape() as tape:
            loss = nt.reduce_sum(v**2) * float(k)
        total = [a + g for a, g in zip(total, tape.gradient(loss, [v]), strict=True)]
    clipped, norm = nt.clip_by_global_norm(total, 1.0)
    return [total, clipped, norm]


def high_orders() -> list[Any]:
    def derivative(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def of(x: Any) -> Any:
            with nt.GradientTape() as tape:
                tape.watch(x)
                y = f(x)
            return tape.gradient(y, x)

        return of

    functions: list[Callable[[Any], Any]] = [lambda x: nt.sin(x) * x**3]
    for _ in range(4):
        functions.append(derivative(functions[-1]))
    return [f(nt.constant(1.25)) for f in functions]


def loops() -> list[Any]:
    x = nt.Variable([1.0, 2.0, 3.0])
    with nt.GradientTape(persistent=True) as tape:
        results = [
            nt.scan(lambda a, e: a * e, x),
            nt.scan(lambda a, e: (a[0] + e, a[1] * e), x, initializer=(0.0, 1.0))[1],
            nt.scan(lambda a, e: a + e, x, initializer=10.0, reverse=True),
            nt.foldl(lambda a, e: a * e, x),
            nt.foldr(lambda a, e: a - e, x, 10.0),
            nt.map_fn(lambda e: e * e, x),
            nt.vectorized_map(lambda e: e[0] * e[1], (x, x)),
            nt.while_loop(lambda i, y: i < 9, lambda i, y: [i + 1, y * x], [0, nt.ones([3])], maximum_iterations=3)[1],
            nt.cond(x[0] > 5, lambda: x * 2, lambda: x * 3),
        ]
    return [[y, tape.gradient(y, x)] for y in results]


def python_loops() -> list[Any]:
    x = nt.Variable(1.5)
    with nt.GradientTape() as tape:
        y = nt.constant(0.0)
        for k in range(10):
            if k % 2:
                continue
            y = y + x**k
            if y > 10:
                break
    return [y, tape.gradient(y, x)]


def assignments_between_reads() -> list[Any]:
    v, w = nt.Variable(2.0), nt.Variable(3.0)
    with nt.GradientTape(persistent=True) as tape:
        first = v * w
        v.assign(v * 10)
        second = v * w
        w.assign_add(1.0).assign_sub(0.5)
        third = v * w
    return [tape.gradient(y, [v, w]) for y in (first, second, third, [first, second, third])]


def jacobian_of_a_gradient_of_rows() -> list[Any]:
    v = nt.Variable([1.0, 2.0, 3.0])
    with nt.GradientTape() as outer:
        with nt.GradientTape() as inner:
            y = nt.reduce_sum(nt.gather(v, [0, 0, 2]) ** 3)
        g = inner.gradient(y, v)
    return [outer.jacobian(g, v)]


def masks_and_places() -> list[Any]:
    x = nt.constant([[1.0, -2.0, 3.0], [-4.0, 5.0, 0.5]])
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = x[x > 0] ** 2
    return [y, tape.gradient(y, x), x[nt.constant([True, False])], nt.where(x > 0), nt.where([0, 3, 0])]


def roundings_and_ties() -> list[Any]:
    return [
        nt.round([0.5, 1.5, 2.5, -0.5]), nt.constant([-7, 7]) // 2, nt.constant([-7, 7]) % 3, nt.constant(7) / 2,
        nt.cast([1.7, -1.7], nt.int32), nt.argmax([1, 3, 3]), nt.argmin([2.0, 1.0, 1.0]), nt.one_hot([0, -1, 5], 3),
        nt.argsort([2.0, 1.0, 2.0, 1.0]), nt.math.top_k([1.0, 3.0, 3.0, 2.0], k=3).indices, nt.linspace(0, 1, 3),
    ]  # fmt: skip


PROGRAMS: dict[Callable[[], Any], Any] = {
    recurrent_cell: [
        0.0846836, [[0.047361, 0.0252999, 0.10566, 0.0661385], [0.0109222, 0.00542606, -0.00914255, 0.0121553],
        [0.00868865, 0.00619383, 0.0233005, 0.0182117]]
    ],
    layer_norm: [-0.232007, [[0.136971, -1.30658, 1.16961], [0.558161, -2.91956, 2.3614]]],
    masked_attention: [1.67137, [[[0.379379, 1.99813], [0.877262, 0.484142], [-1.33108, -1.69029]]]],
    distances_without_the_diagonal: [17.2506, [[-2.7735, -2.7735], [-0.304813, 3.07831], [3.07831, -0.304813]]],
    cosine_similarity: [0.174964, [0.220787, -0.141637, 0.020829], [0.0499896, 0.266611, 0.333264]],
    kl_divergence: [0.0676487, [0.100141, 0.0733615, -0.173503]],
    softmax_regression: [
        1.10382, [[0.031698, -0.105362, 0.091172], [-0.220346, 0.329305, -0.124705], [-0.274124, 0.484373, -0.19658]],
        [0.0851249, -0.167526, 0.0824008]
    ],
    gradient_penalty: [0.328059, [[-0.0799698], [0.55249]]],
    differential_equation: [0.0285882, [[-0.168873, 0.00805086]], [[0.0508626], [-0.0126276]]],
    learning_to_learn: [2.1425, [2.03, 1.52]],
    newton_steps: [[0.132642, -0.247958], 0.682546, [[0.325368, 0.0636384], [0.0636384, 0.319466]]],
    accumulated_gradients: [[[6.0, 12.0]], [[0.447214, 0.894427]], 13.4164],
    high_orders: [1.85349, 5.06423, 8.22005, -1.1723, -39.1954],
    loops: [
        [[1.0, 2.0, 6.0], [9.0, 4.0, 2.0]], [[1.0, 2.0, 6.0], [9.0, 4.0, 2.0]], [[16.0, 15.0, 13.0], [1.0, 2.0, 3.0]],
        [6.0, [6.0, 3.0, 2.0]], [4.0, [-1.0, -1.0, -1.0]], [[1.0, 4.0, 9.0], [2.0, 4.0, 6.0]], [[1.0, 4.0, 9.0], [2.0,
        4.0, 6.0]], [[1.0, 8.0, 27.0], [3.0, 12.0, 27.0]], [[3.0, 6.0, 9.0], [3.0, 3.0, 3.0]]
    ],
    python_loops: [19.7031, 62.0625],
    assignments_between_reads: [[3.0, 2.0], [3.0, 20.0], [3.5, 20.0], [9.5, 42.0]],
    jacobian_of_a_gradient_of_rows: [[[12.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 18.0]]],
    masks_and_places: [
        [1.0, 9.0, 25.0, 0.25], [[2.0, 0.0, 6.0], [0.0, 10.0, 1.0]], [[1.0, -2.0, 3.0]], [[0, 0], [0, 2], [1, 1], [1,
        2]], [[1]]
    ],
    roundings_and_ties: [
        [0.0, 2.0, 2.0, -0.0], [-4, 3], [2, 1], 3.5, [1, -1], 1, 1, [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0,
        0.0]], [1, 3, 0, 2], [1, 2, 3], [0.0, 0.5, 1.0]
    ],
}  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_programs(program: Callable[[], Any]) -> None:
    same(program(), PROGRAMS[program], rtol=2e-5, atol=1e-6)


# ---- second derivatives --------------------------------------------------------------------------------------------

HESSIANS: dict[str, tuple[Callable[[Any], Any], list[float]]] = {
    "norm": (nt.norm, [0.1, 0.5, -0.3]),
    "max with ties": (lambda x: nt.reduce_max(x) ** 2, [1.0, 3.0, 3.0]),
    "matmul": (lambda x: (nt.reshape(x, [2, 2]) @ nt.reshape(x, [2, 2])) ** 2, [1.0, 2.0, 3.0, 4.0]),
    "determinant": (lambda x: nt.linalg.det(nt.reshape(x, [2, 2])) ** 2, [1.0, 2.0, 3.0, 4.5]),
    "Cholesky": (lambda x: nt.linalg.cholesky(nt.linalg.diag(x) + 0.1), [1.0, 2.0, 3.0]),
    "x**x": (lambda x: x**x, [1.0, 2.0, 0.5]),
    "x**3 at 0": (lambda x: x**3, [0.0, 1.0]),
    "cross entropy": (lambda x: nt.nn.sparse_softmax_cross_entropy_with_logits([1], x[None]), [0.1, 0.4, 0.2]),
    "standard deviation": (nt.math.reduce_std, [-1.0, 0.0, 0.5]),
    "sort": (lambda x: nt.sort(x) ** 2 * [1.0, 2.0, 3.0], [-1.0, 0.0, -3.0]),
}


def hessian(name: str) -> Any:
    f, at = HESSIANS[name]
    x = nt.Variable(at)
    with nt.GradientTape() as outer:
        with nt.GradientTape() as inner:
            y = nt.reduce_sum(f(x))
        g = inner.gradient(y, x)
    return outer.jacobian(g, x)


SECOND_DERIVATIVES: dict[str, Any] = {
    "norm": [[1.64201, -0.241473, 0.144884], [-0.241473, 0.482945, 0.724418], [0.144884, 0.724418, 1.25566]],
    "max with ties": [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.5, 0.5]],
    "matmul": [[62.0, 52.0, 68.0, 26.0], [52.0, 86.0, 82.0, 88.0], [68.0, 82.0, 66.0, 92.0], [26.0, 88.0, 92.0, 242.0]],
    "determinant": [
        [40.5, -27.0, -18.0, 6.0], [-27.0, 18.0, 15.0, -6.0], [-18.0, 15.0, 8.0, -4.0], [6.0, -6.0, -4.0, 2.0]
    ],
    "Cholesky": [
        [-0.117819, -0.00186806, -0.000348536], [-0.00186806, -0.0724165, -8.71332e-05], [-0.000348537, -8.71342e-05,
        -0.046094]
    ],
    "x**x": [[2.0, 0.0, 0.0], [0.0, 13.467, 0.0], [0.0, 0.0, 1.48079]],
    "x**3 at 0": [[0.0, 0.0], [0.0, 6.0]],
    "cross entropy": [
        [0.205662, -0.11308, -0.0925818], [-0.11308, 0.238052, -0.124972], [-0.0925818, -0.124972, 0.217554]
    ],
    "standard deviation": [
        [0.0381802, -0.114541, 0.0763603], [-0.114541, 0.343622, -0.229081], [0.0763603, -0.229081, 0.152721]
    ],
    "sort": [[4.0, -0.0, -0.0], [-0.0, 6.0, -0.0], [-0.0, -0.0, 2.0]],
}  # fmt: skip


@pytest.mark.parametrize("name", HESSIANS)
def test_hessians(name: str) -> None:
    same(hessian(name), SECOND_DERIVATIVES[name], rtol=2e-5, atol=1e-6)


def test_hessian_of_a_product_with_a_zero() -> None:
    # TensorFlow has 0 for d2(xyz)/dxdy at y = 0.
    x = nt.Variable([2.0, 0.0, 3.0])
    with nt.GradientTape() as outer:
        with nt.GradientTape() as inner:
            y = nt.reduce_prod(x)
        g = inner.gradient(y, x)
    same(outer.jacobian(g, x), [[0.0, 3.0, 0.0], [3.0, 0.0, 2.0], [0.0, 2.0, 0.0]])


# ---- optimizers ----------------------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "Nesterov": lambda o: o.SGD(learning_rate=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda o: o.Adam(0.1),
    "centered": lambda o: o.RMSprop(0.01, rho=0.8, momentum=0.5, centered=True),
}


def optimized(name: str) -> list[Any]:
    x, y = nt.constant(wave(4, 3)), nt.constant([[0.0], [0.5], [0.25], [1.0]])
    w, b = nt.Variable([[0.3], [-0.2], [0.5]]), nt.Variable([0.1])
    optimizer = OPTIMIZERS[name](nt.optimizers)
    for _ in range(5):
        with nt.GradientTape() as tape:
            loss = nt.reduce_mean((x @ w + b - y) ** 2)
        optimizer.apply_gradients(zip(tape.gradient(loss, [w, b]), [w, b], strict=True))
    assert int(optimizer.iterations) == 5
    return [w, b, loss]


AFTER_FIVE_STEPS: dict[str, Any] = {
    "Nesterov": [[[0.472802], [-0.54412], [-0.0446591]], [0.572219], 0.114105],
    "Adam": [[[0.730841], [-0.622951], [0.0748948]], [0.528763], 0.0485271],
    "centered": [[[0.459605], [-0.358733], [0.341032]], [0.259393], 0.205844],
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str) -> None:
    same(optimized(name), AFTER_FIVE_STEPS[name], rtol=2e-4, atol=1e-6)


# ---- how things look -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6.0, "nt.Tensor(6.0, shape=(), dtype=float32)"),
        ([1.0, 2.0], "nt.Tensor([1. 2.], shape=(2,), dtype=float32)"),
        ([[1, 2], [3, 4]], "nt.Tensor(\n[[1 2]\n [3 4]], shape=(2, 2), dtype=int32)"),
        (True, "nt.Tensor(True, shape=(), dtype=bool)"),
        (np.zeros((0, 2)), "nt.Tensor([], shape=(0, 2), dtype=float64)"),
    ],
)
def test_printed(value: Any, text: str) -> None:
    assert str(nt.constant(value)) == text


def test_formatted() -> None:
    x, v = nt.constant(1.25), nt.Variable(2.5, name="v")
    assert f"{x} {x:.1f} {x:>6} {nt.constant([1, 2])} {v:.2f}" == "1.25 1.2   1.25 [1 2] 2.50"
    assert "%.2f" % x == "1.25"  # noqa: UP031
    assert f"{v}" == str(v) == "<nt.Variable 'v:0' shape=() dtype=float32, numpy=2.5>"
    with pytest.raises(ValueError, match="single number"):
        f"{nt.constant([1.0, 2.0]):.2f}"


def test_shapes() -> None:
    for x in (nt.zeros([2, 3]), nt.Variable(nt.zeros([2, 3]))):
        shape = x.shape
        assert str(shape) == "(2, 3)"
        assert shape.as_list() == [2, 3]
        assert (shape.rank, shape.ndims, shape.num_elements(), shape.is_fully_defined()) == (2, 2, 6, True)
        assert shape == (2, 3)
        assert shape == [2, 3]
        assert shape != [3, 2]
        assert shape == x.get_shape() == nt.TensorShape([2, 3])
        assert hash(shape) == hash((2, 3))
        rows, columns = shape
        assert (rows, columns, shape[-1], len(shape)) == (2, 3, 3, 2)
        assert shape[1:] == [3]
        assert shape[1:].as_list() == [3]
        assert [1] + shape == shape[:0] + (1, 2, 3)
        same(nt.zeros([4, *shape]) + nt.zeros(shape), np.zeros((4, 2, 3)))
    assert nt.zeros((2, 3)).shape is nt.ones(nt.TensorShape([2, 3])).shape


def test_what_is_a_tensor() -> None:
    assert all(map(nt.is_tensor, (nt.constant(1), nt.Variable(1))))
    assert not any(map(nt.is_tensor, (1, [1.0], np.ones(1), None)))


# ---- comparisons ---------------------------------------------------------------------------------------------------


def test_what_does_not_broadcast_differs() -> None:
    pair, triple, matrix = nt.constant([1.0, 2.0]), nt.Variable([1.0, 2.0, 3.0]), nt.ones([3, 1])
    same([pair == triple, triple == pair, pair != triple, pair == np.ones(3, "f4")], [False, False, True, False])
    same([pair == matrix, pair == nt.ones([2])], [[[True, False]] * 3, [True, False]])
    assert pair != None  # noqa: E711
    with pytest.raises(ValueError, match="broadcast"):
        nt.equal(pair, triple)


# ---- errors --------------------------------------------------------------------------------------------------------

A = nt.constant(np.ones((2, 3), np.float32))
REFUSED: dict[str, Callable[[], Any]] = {
    "reshape": lambda: nt.reshape(A, [5]),
    "matmul": lambda: A @ A,
    "add": lambda: A + nt.ones([4]),
    "softmax": lambda: nt.nn.softmax(A, axis=5),
    "one_hot": lambda: nt.one_hot([1], -1),
    "range": lambda: nt.range(0, 5, 0),
    "eye": lambda: nt.eye(-1),
    "axes twice": lambda: nt.reduce_mean(A, axis=[0, 0]),
    "nothing to join": lambda: nt.concat([], 0),
    "labels": lambda: nt.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=A),
    "bias": lambda: nt.nn.bias_add(A, [1.0, 2.0]),
    "gather axis": lambda: nt.gather(A, [0], axis=4),
    "split": lambda: nt.split(A, [1, 1], axis=1),
    "no square": lambda: nt.linalg.inv(A),
    "tensordot": lambda: nt.tensordot(A, A, 1),
    "einsum": lambda: nt.einsum("ij->k", A),
    "dtype": lambda: nt.cast(A, "foo"),
    "None": lambda: nt.constant(None),
    "object": lambda: nt.constant(object()),
    "ragged": lambda: nt.constant([[1.0], [1.0, 2.0]]),
    "fraction": lambda: nt.constant(1.5, dtype=nt.int32),
    "no value": lambda: nt.Variable(),  # type: ignore[call-arg]
    "squeeze": lambda: nt.squeeze(A, [0]),
    "stack": lambda: nt.stack([A, nt.ones([3])]),
    "top_k": lambda: nt.math.top_k(A, 5),
    "reverse": lambda: nt.reverse(A, [4]),
    "tile": lambda: nt.tile(A, [1]),
    "key": lambda: A[1.0],
    "exp of an integer": lambda: nt.exp(1),
    "integer times a fraction": lambda: nt.constant(1) * 1.5,
    "loop variables": lambda: nt.while_loop(lambda i: i < 3, lambda i: (i, i), [0]),
    "rows": lambda: nt.map_fn(lambda x: x, nt.constant(1.0)),
    "no rows": lambda: nt.scan(lambda a, x: a, nt.zeros([0])),
    "tensors that differ in length": lambda: nt.map_fn(lambda x: x[0], (A, nt.ones([3]))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises((ValueError, TypeError, IndexError)):
        REFUSED[name]()


@pytest.mark.parametrize("make", [nt.constant, nt.Variable, nt.convert_to_tensor, lambda x: nt.abs(x)])
@pytest.mark.parametrize("value", [[[1.0, 2.0], [3.0]], [[1], 2], ([1.0], [[2.0]])])
def test_ragged_lists(make: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(ValueError, match="different lengths, and there are no ragged tensors; pad the shorter"):
        make(value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nt.cond(True, 1.0, lambda: 2.0), "cond: true_fn has to be a function, not float"),
        (lambda: nt.cond(True, lambda: 1.0, A), "cond: false_fn has to be a function, not Tensor"),
        (lambda: nt.scan(lambda s, x: (s, s), A, nt.zeros([3])), "scan: the function was given 1 tensors .* gave 2"),
        (lambda: nt.scan(lambda s, x: nt.concat([s, s], 0), A, [1.0]), r"scan: the function gave f32\[2\] .* f32\[4\]"),
        (lambda: nt.while_loop(lambda i: i < 3, lambda i: (i, i), [0]), "while_loop: .* 1 items against 2"),
    ],
)
def test_what_branches_and_loops_refuse(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()
