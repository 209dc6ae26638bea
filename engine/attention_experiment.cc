#include "engine/attention_experiment.h"

#include <algorithm>
#include <cmath>

#include "engine/kv_pages.h"
#include "engine/spread.h"
#include "io/base.h"
#include "io/clock.h"
#include "io/split_mix.h"
#include "kernels/host_memory.h"
#include "kernels/ops.h"
#include "kernels/quantize_blocks.h"
#include "kernels/softmax_rows.h"

namespace weir {
namespace {

constexpr uint64_t kAlignment = 64;
constexpr uint64_t kHalfBytes = 2;

uint64_t QueryFloats(const AttentionShape& shape, const AttentionSize& size) {
  return uint64_t{size.tokens} * shape.heads * shape.key_columns;
}
uint64_t OutputFloats(const AttentionShape& shape, const AttentionSize& size) {
  return uint64_t{size.tokens} * shape.heads * shape.value_columns;
}
uint64_t ScoreFloats(const AttentionShape& shape, const AttentionSize& size) {
  return uint64_t{size.tokens} * shape.heads * size.context;
}
uint64_t KeyFloats(const AttentionShape& shape, const AttentionSize& size) {
  return uint64_t{size.context} * shape.kv_heads * shape.key_columns;
}
uint64_t ValueFloats(const AttentionShape& shape, const AttentionSize& size) {
  return uint64_t{size.context} * shape.kv_heads * shape.value_columns;
}

KvLayout LayoutOf(const AttentionShape& shape) {
  return {.page_tokens = kKvPageTokens,
          .kv_heads = shape.kv_heads,
          .key_columns = shape.key_columns,
          .value_columns = shape.value_columns,
          .order = KvOrder::kByHead};
}

uint64_t PageCount(const AttentionSize& size) { return CeilDiv(size.context, kKvPageTokens); }
uint64_t PageBytes(const AttentionShape& shape) {
  return AlignUp(KvPageBytes(LayoutOf(shape)), kAlignment);
}

// Multiples of 1/64 between -1 and 1: float16 has them exactly.
void FillExactly(absl::Span<float> floats, uint64_t seed) {
  uint64_t state = seed;
  for (float& value : floats) {
    value = static_cast<float>(static_cast<int>(SplitMix64(&state) % 129) - 64) / 64;
  }
}

std::vector<uint16_t> Halves(absl::Span<const float> floats) {
  std::vector<uint16_t> halves(floats.size());
  QuantizeRow(DType::kF16, floats.data(), floats.size(), reinterpret_cast<uint8_t*>(halves.data()));
  return halves;
}

// Hands out one memory piece by piece.
class Pieces {
 public:
  explicit Pieces(uint8_t* memory) : memory_(memory) {}
  template <typename T>
  absl::Span<T> Take(uint64_t count) {
    T* const begin = reinterpret_cast<T*>(memory_ + at_bytes_);
    at_bytes_ += AlignUp(count * sizeof(T), kAlignment);
    return absl::MakeSpan(begin, count);
  }

 private:
  uint8_t* const memory_;
  uint64_t at_bytes_ = 0;
};

}  // namespace

AttentionShape AttentionShapeOf(const ModelConfig& config) {
  const auto full = std::find_if(config.layers.begin(), config.layers.end(),
                                 [](const LayerConfig& layer) { return layer.window == 0; });
  const LayerConfig& layer = full != config.layers.end() ? *full : config.layers.front();
  return {.heads = layer.heads,
          .kv_heads = layer.kv_heads,
          .key_columns = config.key_columns,
          .value_columns = config.value_columns,
          .scale = config.attention_scale,
          .soft_cap = config.attention_soft_cap};
}

uint64_t NaiveAttentionBytes(const AttentionShape& shape, const AttentionSize& size) {
  return TiledAttentionBytes(shape, size) + 4 * sizeof(float) * ScoreFloats(shape, size);
}

uint64_t TiledAttentionBytes(const AttentionShape& shape, const AttentionSize& size) {
  return sizeof(float) * (QueryFloats(shape, size) + OutputFloats(shape, size)) +
         kHalfBytes * (KeyFloats(shape, size) + ValueFloats(shape, size));
}

uint64_t AttentionMemoryBytes(const AttentionShape& shape, const AttentionSize& size) {
  const auto floats = [](uint64_t count) { return AlignUp(count * sizeof(float), kAlignment); };
  const auto halves = [](uint64_t count) { return AlignUp(count * kHalfBytes, kAlignment); };
  return floats(QueryFloats(shape, size)) + 2 * floats(OutputFloats(shape, size)) +
         floats(ScoreFloats(shape, size)) + floats(KeyFloats(shape, size)) +
         floats(ValueFloats(shape, size)) + halves(KeyFloats(shape, size)) +
         halves(ValueFloats(shape, size)) + PageCount(size) * PageBytes(shape);
}

AttentionExperiment::AttentionExperiment(const AttentionShape& shape, const AttentionSize& size,
                                         CpuStream* stream)
    : shape_(shape), size_(size), stream_(stream) {}

absl::StatusOr<std::unique_ptr<AttentionExperiment>> AttentionExperiment::Make(
    const AttentionShape& shape, const AttentionSize& size, CpuStream* stream) {
  WEIR_CHECK(size.tokens > 0 && size.tokens <= size.context);
  WEIR_CHECK(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0);
  std::unique_ptr<AttentionExperiment> experiment(new AttentionExperiment(shape, size, stream));
  WEIR_RETURN_IF_ERROR(experiment->Fill());
  return experiment;
}

absl::Status AttentionExperiment::Fill() {
  const uint64_t bytes = AttentionMemoryBytes(shape_, size_);
  WEIR_ASSIGN_OR_RETURN(memory_, MapHostMemory(bytes, kAlignment));
  TouchZeroPages(memory_->data(), bytes);
  Pieces pieces(memory_->data());
  queries_ = pieces.Take<float>(QueryFloats(shape_, size_));
  naive_output_ = pieces.Take<float>(OutputFloats(shape_, size_));
  tiled_output_ = pieces.Take<float>(OutputFloats(shape_, size_));
  scores_ = pieces.Take<float>(ScoreFloats(shape_, size_));
  keys_ = pieces.Take<float>(KeyFloats(shape_, size_));
  values_ = pieces.Take<float>(ValueFloats(shape_, size_));
  plain_keys_ = pieces.Take<uint16_t>(keys_.size());
  plain_values_ = pieces.Take<uint16_t>(values_.size());
  for (uint64_t i = 0; i < PageCount(size_); ++i) {
    pages_.push_back(pieces.Take<uint8_t>(PageBytes(shape_)).data());
  }
  for (uint32_t i = 0; i < size_.context; ++i) positions_.push_back(static_cast<int32_t>(i));
  FillExactly(queries_, 1);
  FillExactly(keys_, 2);
  FillExactly(values_, 3);
  StorePages();
  StorePlain();
  return stream_->status();
}

void AttentionExperiment::StorePages() {
  StoreKv(*stream_, {.keys = keys_.data(),
                     .keys_stride = uint64_t{shape_.kv_heads} * shape_.key_columns,
                     .values = values_.data(),
                     .values_stride = uint64_t{shape_.kv_heads} * shape_.value_columns,
                     .pages = pages_.data(),
                     .positions = positions_.data(),
                     .tokens = size_.context,
                     .layout = LayoutOf(shape_)});
  stream_->Wait(stream_->Record());
}

void AttentionExperiment::StorePlain() {
  const std::vector<uint16_t> keys = Halves(keys_);
  const std::vector<uint16_t> values = Halves(values_);
  const uint64_t heads = shape_.kv_heads;
  const uint64_t context = size_.context;
  for (uint64_t p = 0; p < context; ++p) {
    for (uint64_t head = 0; head < heads; ++head) {
      for (uint64_t c = 0; c < shape_.key_columns; ++c) {
        plain_keys_[(head * context + p) * shape_.key_columns + c] =
            keys[(p * heads + head) * shape_.key_columns + c];
      }
      for (uint64_t c = 0; c < shape_.value_columns; ++c) {
        plain_values_[(head * shape_.value_columns + c) * context + p] =
            values[(p * heads + head) * shape_.value_columns + c];
      }
    }
  }
}

void AttentionExperiment::RunNaive() {
  const uint64_t context = size_.context;
  const uint32_t group = shape_.heads / shape_.kv_heads;
  const auto bytes = [](const uint16_t* halves) {
    return reinterpret_cast<const uint8_t*>(halves);
  };
  for (uint64_t head = 0; head < shape_.heads; ++head) {
    const uint16_t* const keys = plain_keys_.data() + head / group * context * shape_.key_columns;
    MatMul(*stream_, {.input = queries_.data() + head * shape_.key_columns,
                      .input_stride = uint64_t{shape_.heads} * shape_.key_columns,
                      .weight = bytes(keys),
                      .dtype = DType::kF16,
                      .output = scores_.data() + head * size_.tokens * context,
                      .output_stride = context,
                      .tokens = size_.tokens,
                      .rows = size_.context,
                      .columns = shape_.key_columns});
  }
  SoftmaxRows(*stream_, {.scores = scores_.data(),
                         .positions = positions_.data() + (size_.context - size_.tokens),
                         .rows = shape_.heads * size_.tokens,
                         .tokens = size_.tokens,
                         .columns = size_.context,
                         .scale = shape_.scale,
                         .soft_cap = shape_.soft_cap});
  for (uint64_t head = 0; head < shape_.heads; ++head) {
    const uint16_t* const values =
        plain_values_.data() + head / group * context * shape_.value_columns;
    MatMul(*stream_, {.input = scores_.data() + head * size_.tokens * context,
                      .input_stride = context,
                      .weight = bytes(values),
                      .dtype = DType::kF16,
                      .output = naive_output_.data() + head * shape_.value_columns,
                      .output_stride = uint64_t{shape_.heads} * shape_.value_columns,
                      .tokens = size_.tokens,
                      .rows = shape_.value_columns,
                      .columns = size_.context});
  }
  stream_->Wait(stream_->Record());
}

void AttentionExperiment::RunTiled() {
  Attention(*stream_, {.queries = queries_.data(),
                       .queries_stride = uint64_t{shape_.heads} * shape_.key_columns,
                       .pages = pages_.data(),
                       .positions = positions_.data() + (size_.context - size_.tokens),
                       .output = tiled_output_.data(),
                       .output_stride = uint64_t{shape_.heads} * shape_.value_columns,
                       .tokens = size_.tokens,
                       .heads = shape_.heads,
                       .layout = LayoutOf(shape_),
                       .scale = shape_.scale,
                       .soft_cap = shape_.soft_cap,
                       .window = 0,
                       .positions_end = size_.context});
  stream_->Wait(stream_->Record());
}

double AttentionExperiment::LargestDifference() const {
  double largest = 0;
  for (size_t i = 0; i < naive_output_.size(); ++i) {
    largest = std::max(largest, std::abs(double{naive_output_[i]} - tiled_output_[i]));
  }
  return largest;
}

namespace {

absl::StatusOr<AttentionComparison> CompareAt(const AttentionShape& shape,
                                              const AttentionSize& size,
                                              const AttentionExperimentOptions& options,
                                              CpuStream* stream,
                                              const std::function<bool(uint32_t)>& after_round) {
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<AttentionExperiment> experiment,
                        AttentionExperiment::Make(shape, size, stream));
  const RealClock clock;
  const auto seconds = [&](void (AttentionExperiment::*run)()) {
    const int64_t begin_ns = clock.NowNs();
    (experiment.get()->*run)();
    return static_cast<double>(clock.NowNs() - begin_ns) * 1e-9;
  };
  const int64_t begin_ns = clock.NowNs();
  std::vector<double> naive_s, tiled_s;
  for (uint32_t round = 0; round < options.rounds; ++round) {
    const double spent_s = static_cast<double>(clock.NowNs() - begin_ns) * 1e-9;
    if (round > 0 && spent_s > options.limit_s) break;
    if (round % 2 == 0) naive_s.push_back(seconds(&AttentionExperiment::RunNaive));
    tiled_s.push_back(seconds(&AttentionExperiment::RunTiled));
    if (round % 2 == 1) naive_s.push_back(seconds(&AttentionExperiment::RunNaive));
    if (!after_round(round)) return absl::CancelledError("comparing attention was interrupted");
  }
  WEIR_RETURN_IF_ERROR(stream->status());
  return AttentionComparison{.size = size,
                             .naive_s = SpreadOf(naive_s).median,
                             .tiled_s = SpreadOf(tiled_s).median,
                             .naive_bytes = NaiveAttentionBytes(shape, size),
                             .tiled_bytes = TiledAttentionBytes(shape, size),
                             .largest_difference = experiment->LargestDifference()};
}

}  // namespace

absl::StatusOr<std::vector<AttentionComparison>> CompareAttention(
    const AttentionShape& shape, const AttentionExperimentOptions& options,
    const std::function<bool(double share)>& progress) {
  const bool no_context = std::count(options.contexts.begin(), options.contexts.end(), 0u) > 0;
  if (options.chunk_tokens == 0 || options.rounds == 0 || no_context) {
    return absl::InvalidArgumentError(
        "attention: 1 token in a context and a chunk, and 1 round at least");
  }
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device,
                        MakeCpuDevice({.threads = options.threads, .isa = options.isa}));
  const std::unique_ptr<Stream> stream = device->NewStream();
  std::vector<AttentionComparison> comparisons;
  const double all = static_cast<double>(options.contexts.size()) * options.rounds;
  for (const uint32_t context : options.contexts) {
    const AttentionSize size = {.tokens = std::min(context, options.chunk_tokens),
                                .context = context};
    const double done = static_cast<double>(comparisons.size()) * options.rounds;
    WEIR_ASSIGN_OR_RETURN(
        const AttentionComparison comparison,
        CompareAt(shape, size, options, static_cast<CpuStream*>(stream.get()),
                  [&](uint32_t round) { return !progress || progress((done + round + 1) / all); }));
    comparisons.push_back(comparison);
  }
  return comparisons;
}

}  // namespace weir
