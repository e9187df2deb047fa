"""Which element types ONNX Runtime's CPU provider has kernels for, of the decoder's operators.

    python -m benchmarks.cpu_kernels

A model of one operator is loaded for each; "no" is a session that is refused. A type that loads may
still be computed by way of fp32.
"""

import onnxruntime as ort
from onnx import NodeProto, TensorProto, ValueInfoProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

TYPES = {
    "fp32": TensorProto.FLOAT,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
}
CONTRIB = "com.microsoft"
Operator = tuple[NodeProto, list[ValueInfoProto], ValueInfoProto]


def _operators(kind: int) -> dict[str, Operator]:
    def tensor(name: str, *shape: int, of: int = kind) -> ValueInfoProto:
        return make_tensor_value_info(name, of, shape)

    a, out = tensor("a", 1, 1, 64), tensor("out", 1, 1, 64)
    other, scale = tensor("b", 1, 1, 64), tensor("b", 64)
    counts = [tensor(name, 1, of=TensorProto.INT32) for name in ("lengths", "total")]
    kv = [tensor(name, 1, 1, 32) for name in ("k", "v")]
    past = [tensor(name, 1, 2, 8, 16) for name in ("past_k", "past_v")]
    packed, scales = tensor("b", 64, 2, 16, of=TensorProto.UINT8), tensor("s", 128)
    places = tensor("p", 1, 1, of=TensorProto.INT64)
    tables = [tensor(name, 8, 16) for name in ("cos", "sin")]

    def node(
        name: str, inputs: list[ValueInfoProto], domain: str = "", **attributes: int
    ) -> Operator:
        made = make_node(name, [i.name for i in inputs], ["out"], None, None, domain, **attributes)
        return made, inputs, out

    return {
        "MatMul": node("MatMul", [a, tensor("b", 64, 64)]),
        "Add": node("Add", [a, other]),
        "Mul": node("Mul", [a, other]),
        "Sigmoid": node("Sigmoid", [a]),
        "Where": node("Where", [tensor("m", 1, 1, 64, of=TensorProto.BOOL), a, other]),
        "SimplifiedLayerNormalization": node("SimplifiedLayerNormalization", [a, scale]),
        "SkipSimplifiedLayerNormalization": node(
            "SkipSimplifiedLayerNormalization", [a, other, tensor("w", 64)], CONTRIB
        ),
        "RotaryEmbedding": node("RotaryEmbedding", [a, places, *tables], CONTRIB, num_heads=2),
        "GroupQueryAttention": node(
            "GroupQueryAttention", [a, *kv, *past, *counts], CONTRIB, num_heads=4, kv_num_heads=2
        ),
        "MatMulNBits": node(
            "MatMulNBits", [a, packed, scales], CONTRIB, K=64, N=64, bits=4, block_size=32
        ),
    }


def loads(operator: str, kind: int) -> bool:
    """Whether a session over this operator alone can be made."""
    node, inputs, output = _operators(kind)[operator]
    model = make_model(
        make_graph([node], operator, inputs, [output]),
        opset_imports=[make_opsetid("", 18), make_opsetid(CONTRIB, 1)],
        ir_version=10,
    )
    try:
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True


def main() -> None:
    """Print the table."""
    ort.set_default_logger_severity(4)
    print(f"ONNX Runtime {ort.__version__}, CPU provider")
    print(f"{'operator':36}" + "".join(f"{name:>6}" for name in TYPES))
    for operator in _operators(TensorProto.FLOAT):
        found = (f"{'yes' if loads(operator, kind) else 'no':>6}" for kind in TYPES.values())
        print(f"{operator:36}" + "".join(found))


if __name__ == "__main__":
    main()
