"""The protocol's messages, described in a table of our own: nothing is generated, no compiler.

Names, numbers and types of fields are those of the protocol and of Triton's extensions to it:
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_grpc.md
https://github.com/triton-inference-server/common/blob/main/protobuf/grpc_service.proto
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
https://github.com/grpc/grpc/blob/master/src/proto/grpc/health/v1/health.proto
Messages that this server has no use for are not here; protobuf passes over fields it does not know.
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_INFERENCE: Final = """
ServerLiveRequest
ServerLiveResponse          bool live 1
ServerReadyRequest
ServerReadyResponse         bool ready 1
ModelReadyRequest           string name 1, string version 2
ModelReadyResponse          bool ready 1
ServerMetadataRequest
ServerMetadataResponse      string name 1, string version 2, string* extensions 3
ModelMetadataRequest        string name 1, string version 2
ModelMetadataResponse       string name 1, string* versions 2, string platform 3,
                            .TensorMetadata* inputs 4, .TensorMetadata* outputs 5
  TensorMetadata            string name 1, string datatype 2, int64* shape 3
InferParameter              bool ?bool_param 1, int64 ?int64_param 2, string ?string_param 3,
                            double ?double_param 4, uint64 ?uint64_param 5
InferTensorContents         bool* bool_contents 1, int32* int_contents 2, int64* int64_contents 3,
                            uint32* uint_contents 4, uint64* uint64_contents 5,
                            float* fp32_contents 6, double* fp64_contents 7,
                            bytes* bytes_contents 8
ModelInferRequest           string model_name 1, string model_version 2, string id 3,
                            InferParameter# parameters 4, .InferInputTensor* inputs 5,
                            .InferRequestedOutputTensor* outputs 6, bytes* raw_input_contents 7
  InferInputTensor          string name 1, string datatype 2, int64* shape 3,
                            InferParameter# parameters 4, InferTensorContents contents 5
  InferRequestedOutputTensor string name 1, InferParameter# parameters 2
ModelInferResponse          string model_name 1, string model_version 2, string id 3,
                            InferParameter# parameters 4, .InferOutputTensor* outputs 5,
                            bytes* raw_output_contents 6
  InferOutputTensor         string name 1, string datatype 2, int64* shape 3,
                            InferParameter# parameters 4, InferTensorContents contents 5
ModelStreamInferResponse    string error_message 1, ModelInferResponse infer_response 2
ModelConfigRequest          string name 1, string version 2
ModelConfigResponse         ModelConfig config 1
ModelConfig                 string name 1, string platform 2, ModelVersionPolicy version_policy 3,
                            int32 max_batch_size 4, ModelInput* input 5, ModelOutput* output 6,
                            ModelInstanceGroup* instance_group 7,
                            ModelDynamicBatching dynamic_batching 11, ModelParameter# parameters 14,
                            string backend 17
ModelVersionPolicy          .Specific specific 3
  Specific                  int64* versions 1
ModelInput                  string name 1, DataType data_type 2, int64* dims 4
ModelOutput                 string name 1, DataType data_type 2, int64* dims 3
ModelInstanceGroup          string name 1, int32 count 2, .Kind kind 4
  enum Kind                 KIND_AUTO 0, KIND_GPU 1, KIND_CPU 2, KIND_MODEL 3
ModelDynamicBatching        int32* preferred_batch_size 1, uint64 max_queue_delay_microseconds 2
ModelParameter              string string_value 1
enum DataType               TYPE_INVALID 0, TYPE_BOOL 1, TYPE_UINT8 2, TYPE_UINT16 3,
                            TYPE_UINT32 4, TYPE_UINT64 5, TYPE_INT8 6, TYPE_INT16 7, TYPE_INT32 8,
                            TYPE_INT64 9, TYPE_FP16 10, TYPE_FP32 11, TYPE_FP64 12, TYPE_STRING 13,
                            TYPE_BF16 14
ModelStatisticsRequest      string name 1, string version 2
ModelStatisticsResponse     ModelStatistics* model_stats 1
ModelStatistics             string name 1, string version 2, uint64 last_inference 3,
                            uint64 inference_count 4, uint64 execution_count 5,
                            InferStatistics inference_stats 6, InferBatchStatistics* batch_stats 7
InferStatistics             StatisticDuration success 1, StatisticDuration fail 2,
                            StatisticDuration queue 3, StatisticDuration compute_input 4,
                            StatisticDuration compute_infer 5, StatisticDuration compute_output 6,
                            StatisticDuration cache_hit 7, StatisticDuration cache_miss 8
InferBatchStatistics        uint64 batch_size 1, StatisticDuration compute_input 2,
                            StatisticDuration compute_infer 3, StatisticDuration compute_output 4
StatisticDuration           uint64 count 1, uint64 ns 2
RepositoryIndexRequest      string repository_name 1, bool ready 2
RepositoryIndexResponse     .ModelIndex* models 1
  ModelIndex                string name 1, string version 2, string state 3, string reason 4
ModelRepositoryParameter    bool ?bool_param 1, int64 ?int64_param 2, string ?string_param 3,
                            bytes ?bytes_param 4
RepositoryModelLoadRequest  string repository_name 1, string model_name 2,
                            ModelRepositoryParameter# parameters 3
RepositoryModelLoadResponse
RepositoryModelUnloadRequest string repository_name 1, string model_name 2,
                            ModelRepositoryParameter# parameters 3
RepositoryModelUnloadResponse
"""
"""One message a line, its fields behind it; ``*`` repeated, ``#`` a map from strings, ``?`` one of
those that are marked so; indented and with ``.``, inside the message above."""

_HEALTH: Final = """
HealthCheckRequest          string service 1
HealthCheckResponse         .ServingStatus status 1
  enum ServingStatus        UNKNOWN 0, SERVING 1, NOT_SERVING 2, SERVICE_UNKNOWN 3
HealthListRequest
HealthListResponse          HealthCheckResponse# statuses 1
"""

_Field = descriptor_pb2.FieldDescriptorProto
_ENUMS: Final = ("DataType", ".Kind", ".ServingStatus")


def _file(name: str, package: str, table: str) -> descriptor_pb2.FileDescriptorProto:
    """Read a table."""
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    for line in table.replace(",\n", ", ").strip().splitlines():
        owner: Any = file.message_type[-1] if line.startswith("  ") else file
        inside = f".{package}.{owner.name}" if line.startswith("  ") else f".{package}"
        head, *rest = line.split(maxsplit=2 if line.lstrip().startswith("enum") else 1)
        fields = [part.split() for part in rest[-1].split(",")] if rest else []
        if head == "enum":
            enums = owner.enum_type
            enum = enums.add(name=rest[0])
            for value, number in fields:
                enum.value.add(name=value, number=int(number))
            continue
        nested = line.startswith("  ")
        message = owner.nested_type.add(name=head) if nested else file.message_type.add(name=head)
        for kind, field, number in fields:
            _add(message, f"{inside}.{head}", package, kind, field, int(number))
    return file


def _add(message: Any, full: str, package: str, kind: str, name: str, number: int) -> None:
    repeated, mapped = kind.endswith("*"), kind.endswith("#")
    base = kind.rstrip("*#")
    field = message.field.add(name=name.lstrip("?"), number=number, label=_Field.LABEL_OPTIONAL)
    if repeated or mapped:
        field.label = _Field.LABEL_REPEATED
    if mapped:
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=1, type=_Field.TYPE_STRING)
        _add(entry, f"{full}.{entry.name}", package, base, "value", 2)
        field.type, field.type_name = _Field.TYPE_MESSAGE, f"{full}.{entry.name}"
    elif f"TYPE_{base.upper()}" in _Field.Type.keys():  # noqa: SIM118  # not a dict
        field.type = _Field.Type.Value(f"TYPE_{base.upper()}")
    else:
        field.type = _Field.TYPE_ENUM if base in _ENUMS else _Field.TYPE_MESSAGE
        field.type_name = f"{full}{base}" if base.startswith(".") else f".{package}.{base}"
    if name.startswith("?"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0


def _classes(*files: descriptor_pb2.FileDescriptorProto) -> dict[str, Any]:
    """Make the classes, in a pool of their own: another library may describe the same names."""
    pool = descriptor_pool.DescriptorPool()
    found = {}
    for file in files:
        described = pool.AddSerializedFile(file.SerializeToString())
        for name, message in described.message_types_by_name.items():
            found[name] = message_factory.GetMessageClass(message)
    return found


_ALL: Final = _classes(
    _file("edgeport/inference.proto", "inference", _INFERENCE),
    _file("edgeport/health.proto", "grpc.health.v1", _HEALTH),
)


def __getattr__(name: str) -> Any:
    if name in _ALL:
        return _ALL[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
