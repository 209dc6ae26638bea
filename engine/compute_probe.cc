#include "engine/compute_probe.h"

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "io/base.h"
#include "io/clock.h"
#include "kernels/cpu_device.h"

namespace weir {
namespace {

constexpr uint32_t kMostRows = 1024;  // per product, as a block's piece has

// A matrix of the model that stands for all those of its format: the one with the most bytes.
struct FormatShare {
  const TensorInfo* matrix = nullptr;
  uint64_t bytes = 0;  // of all matrices of the format
};

std::map<DType, FormatShare> MatricesByFormat(const Model& model) {
  std::map<DType, FormatShare> formats;
  auto add = [&formats](const TensorInfo* matrix) {
    if (matrix == nullptr) return;
    FormatShare& share = formats[matrix->dtype];
    share.bytes += matrix->bytes;
    if (share.matrix == nullptr || matrix->bytes > share.matrix->bytes) share.matrix = matrix;
  };
  for (const LayerTensors& layer : model.tensors.layers) {
    for (const TensorInfo* matrix : {layer.query, layer.key, layer.value, layer.fused_qkv,
                                     layer.attention_output, layer.gate, layer.up, layer.down}) {
      add(matrix);
    }
  }
  add(model.tensors.output);
  return formats;
}

class Prober {
 public:
  Prober(Stream& stream, uint8_t* weights, uint64_t weight_bytes, uint8_t* activations)
      : stream_(stream),
        weights_(weights),
        weight_bytes_(weight_bytes),
        activations_(activations) {}

  // Bytes per second over walks through the memory, for `duration_ns`.
  double Measure(const TensorInfo& matrix, ActivationFormat format, int64_t duration_ns) {
    const auto columns = static_cast<uint32_t>(matrix.columns());
    const uint64_t row_bytes = RowBytes(matrix.dtype, columns);
    const uint64_t rows = std::min<uint64_t>({kMostRows, matrix.rows(), weight_bytes_ / row_bytes});
    if (rows == 0) return 0;
    MatMulArgs args;
    if (format != ActivationFormat::kF32 && UsesQuantizedActivations(matrix.dtype)) {
      args.quantized = activations_;
      args.quantized_format = format;
    } else {
      args.input = reinterpret_cast<const float*>(activations_);
      args.input_stride = columns;
    }
    args.dtype = matrix.dtype;
    args.output = reinterpret_cast<float*>(activations_ + ActivationBytes(columns));
    args.output_stride = rows;
    args.tokens = 1;
    args.rows = static_cast<uint32_t>(rows);
    args.columns = columns;
    const uint64_t pieces = weight_bytes_ / (rows * row_bytes);
    uint64_t done = 0;
    const int64_t begin_ns = clock_.NowNs();
    int64_t now_ns = begin_ns;
    while (now_ns - begin_ns < duration_ns) {
      for (int i = 0; i < 4; ++i, ++done) {
        args.weight = weights_ + done % pieces * rows * row_bytes;
        MatMul(stream_, args);
      }
      stream_.Wait(stream_.Record());
      now_ns = clock_.NowNs();
    }
    return static_cast<double>(done * rows * row_bytes) * 1e9 /
           static_cast<double>(now_ns - begin_ns);
  }

  static uint64_t ActivationBytes(uint64_t columns) {
    return AlignUp(
        std::max(columns * sizeof(float), QuantizedActivationBytes(1, AlignUp(columns, 32))), 64);
  }

 private:
  Stream& stream_;
  uint8_t* weights_;
  uint64_t weight_bytes_;
  uint8_t* activations_;
  RealClock clock_;
};

}  // namespace

absl::StatusOr<double> ProbeComputeBytesPerS(const Model& model,
                                             const ComputeProbeOptions& options) {
  const std::map<DType, FormatShare> formats = MatricesByFormat(model);
  uint64_t total_bytes = 0;
  uint64_t widest = 0;
  for (const auto& [dtype, share] : formats) {
    total_bytes += share.bytes;
    widest = std::max(widest, share.matrix->columns());
  }
  WEIR_ASSIGN_OR_RETURN(auto device,
                        MakeCpuDevice({.threads = options.threads, .isa = options.isa}));
  WEIR_ASSIGN_OR_RETURN(auto weights, device->Allocate(options.memory_bytes, 4096, Touch::kNow));
  const uint64_t activation_bytes = Prober::ActivationBytes(widest) + kMostRows * sizeof(float);
  WEIR_ASSIGN_OR_RETURN(auto activations, device->Allocate(activation_bytes, 64, Touch::kNow));
  std::unique_ptr<Stream> stream = device->NewStream();
  Prober prober(*stream, weights->data(), options.memory_bytes, activations->data());
  double seconds = 0;  // to multiply every weight once
  for (const auto& [dtype, share] : formats) {
    const double part = static_cast<double>(share.bytes) / static_cast<double>(total_bytes);
    const auto duration_ns = std::max<int64_t>(
        5'000'000, static_cast<int64_t>(part * static_cast<double>(options.duration_ns)));
    const double rate = prober.Measure(*share.matrix, options.activations, duration_ns);
    if (rate <= 0) return 0.0;
    seconds += static_cast<double>(share.bytes) / rate;
  }
  return static_cast<double>(total_bytes) / seconds;
}

}  // namespace weir
