"""Sizes of Triton's data types."""

from tritonclient.grpc import model_config_pb2 as pb

_SIZES = {
    pb.TYPE_BOOL: 1,
    pb.TYPE_UINT8: 1,
    pb.TYPE_UINT16: 2,
    pb.TYPE_UINT32: 4,
    pb.TYPE_UINT64: 8,
    pb.TYPE_INT8: 1,
    pb.TYPE_INT16: 2,
    pb.TYPE_INT32: 4,
    pb.TYPE_INT64: 8,
    pb.TYPE_FP16: 2,
    pb.TYPE_FP32: 4,
    pb.TYPE_FP64: 8,
    pb.TYPE_BF16: 2,
}


def byte_size(data_type: int) -> int:
    """Bytes of an element; 0 for strings and for no type, as `GetDataTypeByteSize` has it."""
    return _SIZES.get(data_type, 0)
