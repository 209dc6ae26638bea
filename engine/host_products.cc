#include "engine/host_products.h"

#include <algorithm>

#include "engine/workspace.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr uint64_t kAlignment = 64;

struct Layout {
  uint64_t quantized_bytes = 0;  // offsets
  uint64_t results_bytes = 0;
  uint64_t end_bytes = 0;
};

Layout LayOut(const ModelConfig& config, const HostProductsShape& shape) {
  const WorkspaceWidths widest = WidestProducts(config);
  const uint64_t logits = uint64_t{shape.logit_rows} * config.vocabulary;
  const uint64_t results = std::max(uint64_t{shape.tokens} * widest.output, logits);
  Layout layout;
  layout.quantized_bytes =
      AlignUp(uint64_t{shape.tokens} * widest.input * sizeof(float), kAlignment);
  layout.results_bytes =
      layout.quantized_bytes +
      AlignUp(QuantizedActivationBytes(shape.tokens, AlignUp(widest.input, 32)), kAlignment);
  layout.end_bytes = layout.results_bytes + results * sizeof(float);
  return layout;
}

}  // namespace

uint64_t HostProducts::HostBytes(const ModelConfig& config, const HostProductsShape& shape) {
  return LayOut(config, shape).end_bytes;
}

// Only projections to the residual are added to what is there.
uint64_t HostProducts::DeviceBytes(const ModelConfig& config, const HostProductsShape& shape) {
  return uint64_t{shape.tokens} * config.columns * sizeof(float);
}

HostProducts::HostProducts(const ModelConfig& config, const Streams& streams,
                           const Options& options)
    : streams_(streams), options_(options) {
  const Layout layout = LayOut(config, options.shape);
  input_ = reinterpret_cast<float*>(options.host_memory);
  quantized_ = options.host_memory + layout.quantized_bytes;
  results_ = reinterpret_cast<float*>(options.host_memory + layout.results_bytes);
  added_ = reinterpret_cast<float*>(options.device_memory);
  sums_.reserve(options.most_products);
}

void HostProducts::BeginPass() {
  if (!group_.has_value()) return;
  for (Stream* stream : {streams_.download, streams_.upload}) stream->Wait(stream->Record());
  group_.reset();
  sums_.clear();
}

void HostProducts::Open(uint32_t group, const ProductInput& input) {
  WEIR_CHECK(!group_.has_value());
  if (!options_.groups[group]) return;
  WEIR_CHECK(input.tokens <= options_.shape.tokens);
  group_ = group;
  is_started_ = false;
  is_quantized_ = false;
  FetchInput(input);
}

void HostProducts::FetchInput(const ProductInput& input) {
  shape_ = input;
  streams_.download->WaitFor(*streams_.compute, streams_.compute->Record());
  const auto copy = [this](float* to, const float* from, uint64_t count) {
    streams_.download->CopyOut(reinterpret_cast<uint8_t*>(to),
                               reinterpret_cast<const uint8_t*>(from), count * sizeof(float));
  };
  if (input.tokens == 1 || input.stride == input.columns) {
    copy(input_, input.data, uint64_t{input.tokens} * input.columns);
  } else {
    for (uint64_t t = 0; t < input.tokens; ++t) {
      copy(input_ + t * input.columns, input.data + t * input.stride, input.columns);
    }
  }
  input_there_ = streams_.download->Record();
}

void HostProducts::Multiply(const MatMulArgs& product, uint32_t first_row) {
  WEIR_CHECK(group_.has_value() && product.tokens == shape_.tokens &&
             product.columns == shape_.columns);
  if (!is_started_) {
    streams_.cpu->WaitFor(*streams_.download, input_there_);
    is_started_ = true;
  }
  MatMulArgs args = product;
  args.input = nullptr;
  args.quantized = nullptr;
  if (options_.activations != ActivationFormat::kF32 && UsesQuantizedActivations(product.dtype)) {
    Quantize();
    args.quantized = quantized_;
    args.quantized_format = options_.activations;
  } else {
    args.input = input_;
    args.input_stride = shape_.columns;
  }
  float* result = results_ + uint64_t{product.tokens} * first_row;
  args.output = result;
  args.output_stride = product.rows;
  args.accumulate = false;
  MatMul(*streams_.cpu, args);
  CopyIn(product, result, first_row);
}

void HostProducts::Quantize() {
  if (is_quantized_) return;
  QuantizeActivations(*streams_.cpu, {.input = input_,
                                      .input_stride = shape_.columns,
                                      .output = quantized_,
                                      .tokens = shape_.tokens,
                                      .columns = shape_.columns,
                                      .format = options_.activations});
  is_quantized_ = true;
}

// What the compute stream did before it made the group's input is done by now, so that outputs may
// be written beside it. What is added must wait for its turn there.
void HostProducts::CopyIn(const MatMulArgs& product, const float* result, uint32_t first_row) {
  Stream& upload = *streams_.upload;
  upload.WaitFor(*streams_.cpu, streams_.cpu->Record());
  const auto copy = [&upload](float* to, const float* from, uint64_t count) {
    upload.CopyIn(reinterpret_cast<uint8_t*>(to), reinterpret_cast<const uint8_t*>(from),
                  count * sizeof(float));
  };
  const uint64_t rows = product.rows;
  if (product.accumulate) {
    float* added = added_ + uint64_t{product.tokens} * first_row;
    copy(added, result, product.tokens * rows);
    WEIR_CHECK(sums_.size() < sums_.capacity());
    sums_.push_back({added, product.output, product.output_stride, product.rows});
    return;
  }
  for (uint64_t t = 0; t < product.tokens; ++t) {
    copy(product.output + t * product.output_stride, result + t * rows, rows);
  }
}

void HostProducts::Close() {
  if (!group_.has_value()) return;
  group_.reset();
  if (!is_started_) return;
  streams_.compute->WaitFor(*streams_.upload, streams_.upload->Record());
  for (const Sum& sum : sums_) {
    Add(*streams_.compute, {.input = sum.input,
                            .input_stride = sum.rows,
                            .accumulator = sum.output,
                            .accumulator_stride = sum.output_stride,
                            .tokens = shape_.tokens,
                            .columns = sum.rows});
  }
  sums_.clear();
}

}  // namespace weir
