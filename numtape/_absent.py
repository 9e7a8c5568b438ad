"""Names that numtape lacks: in goes what somebody asked a module for, out comes an error that says what to do.

Only imported when it has come to that.
"""

from __future__ import annotations

from types import ModuleType

_INSTEAD = {
    "use Python's: it shows a tensor's elements": "print",
    "there is one device, the CPU: leave the `with` out": "device",
    "kernels run on the CPU; there are no devices to choose": "config.list_logical_devices "
    "config.list_physical_devices config.set_visible_devices distribute",
    "use `nt.debugging`": "Assert assert_equal assert_greater assert_less",
    "compare len(x.shape)": "assert_rank debugging.assert_rank debugging.assert_rank_at_least",
    "compare x.shape": "debugging.assert_shapes",
    "tapes are there from the start: nothing has to be switched on": "compat executing_eagerly",
    "there are no graphs and no sessions: lines run as they stand; see `nt.function`": "Graph Session placeholder "
    "control_dependencies group no_op get_static_value guarantee_const",
    "record on an `nt.GradientTape`": "gradients",
    "use `GradientTape.jacobian` of a gradient": "hessians",
    "use Python's `if`, or `nt.cond` within one another": "case switch_case",
    "use a Python list, and `nt.stack` at the end": "TensorArray",
    "call the Python function as it is; `nt.primitive` gives it a gradient": "py_function numpy_function",
    "use NumPy, which takes tensors": "unique unique_with_counts searchsorted unravel_index histogram_fixed_width "
    "math.bincount math.confusion_matrix math.invert_permutation math.polyval math.zero_fraction nn.zero_fraction",
    "write nt.range(maxlen) < lengths[:, nt.newaxis]": "sequence_mask",
    "write scalar * x": "scalar_mul math.scalar_mul",
    "write `nt.divide`": "realdiv",
    "write `nt.cast`, which takes what is out of range to the nearest integer": "saturate_cast",
    "write x[begin:end:stride]": "strided_slice",
    "write `nt.float64`": "double",
    "write nt.nest.map_structure(nt.identity, xs)": "identity_n",
    "floats are `nt.float32` and `nt.float64`": "bfloat16 float16 half",
    "complex numbers are not there": "complex complex64 complex128 math.real math.imag math.conj math.angle signal "
    "eig eigvals linalg.eig linalg.eigvals",
    "text stays in Python": "as_string string strings",
    "ragged tensors are not there: pad rows to one length, and leave the rest out with a mask": "RaggedTensor ragged",
    "sparse tensors are not there; rows at indices are `nt.IndexedSlices`": "SparseTensor sparse",
    "use `nt.keras.initializers`": "constant_initializer ones_initializer zeros_initializer random_normal_initializer "
    "random_uniform_initializer",
    "use `nt.train.Checkpoint`": "saved_model",
    "read and write files with Python": "io",
    "log what you like with Python, such as float(loss)": "summary",
    "there is one generator; see `nt.random.set_seed` and the arguments `seed`": "random.Generator "
    "random.get_global_generator random.set_global_generator",
    "give `seed` to `nt.random.normal` and its like": "random.stateless_normal random.stateless_uniform "
    "random.stateless_truncated_normal random.stateless_categorical",
    "convolutions and pooling are not there": "nn.conv1d nn.conv2d nn.conv3d nn.convolution nn.conv2d_transpose "
    "nn.depthwise_conv2d nn.separable_conv2d nn.avg_pool nn.avg_pool2d nn.max_pool nn.max_pool2d nn.pool "
    "keras.layers.Conv1D keras.layers.Conv2D keras.layers.Conv3D keras.layers.Conv2DTranspose "
    "keras.layers.DepthwiseConv2D keras.layers.SeparableConv2D keras.layers.MaxPooling2D keras.layers.MaxPool2D "
    "keras.layers.AveragePooling2D keras.layers.AvgPool2D keras.layers.GlobalAveragePooling2D "
    "keras.layers.GlobalMaxPooling2D",
    "recurrent layers are not there; write the loop, or `nt.scan`": "keras.layers.GRU keras.layers.LSTM "
    "keras.layers.RNN keras.layers.SimpleRNN",
    'write nt.keras.layers.Activation("relu") and the like': "keras.layers.ReLU keras.layers.Softmax keras.layers.ELU "
    "keras.layers.LeakyReLU",
    "write the loss with `nt.nn` and `nt.reduce_mean`, such as "
    "nt.reduce_mean(nt.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))": "keras.losses",
    "compute them from the values, such as "
    'nt.reduce_mean(nt.cast(nt.argmax(logits, -1) == labels, "float32"))': "keras.metrics",
    "give `learning_rate` a function of the step": "keras.optimizers.schedules",
    "write the loop: there is no `fit`": "keras.callbacks",
    "get data with another library; `nt.data.Dataset` takes arrays": "keras.datasets",
    "write nt.one_hot for to_categorical, and nt.random.set_seed for set_random_seed": "keras.utils",
    "add the term to the loss": "keras.regularizers",
    "write ops, such as nt.reduce_sum": "keras.backend keras.ops",
}
HINTS = {name: hint for hint, names in _INSTEAD.items() for name in names.split()}
"""For names of TensorFlow's, without `tf.`, what to do in their place."""


def absent(module: ModuleType, name: str) -> AttributeError:
    """The error for a name that a module has not."""
    path = f"{module.__name__}.{name}".partition(".")[2]
    hint = f"; {HINTS[path]}" if path in HINTS else ""
    return AttributeError(f"module {module.__name__!r} has no attribute {name!r}{hint}", name=name, obj=module)
