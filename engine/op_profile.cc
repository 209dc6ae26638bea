#include "engine/op_profile.h"

#include <algorithm>

#include "io/base.h"
#include "kernels/cpu_device.h"

namespace weir {

std::string_view ProfiledOpName(ProfiledOp op) {
  switch (op) {
    case ProfiledOp::kEmbed:
      return "embedding rows";
    case ProfiledOp::kNorm:
      return "norm";
    case ProfiledOp::kQuantize:
      return "quantise activations";
    case ProfiledOp::kQkv:
      return "q/k/v";
    case ProfiledOp::kPrepareAttention:
      return "rope, store KV";
    case ProfiledOp::kAttention:
      return "attention";
    case ProfiledOp::kAttentionOutput:
      return "attention output";
    case ProfiledOp::kGateUp:
      return "gate/up";
    case ProfiledOp::kActivation:
      return "activation";
    case ProfiledOp::kDown:
      return "down";
    case ProfiledOp::kHead:
      return "head";
    case ProfiledOp::kSoftCap:
      return "soft cap";
    case ProfiledOp::kTopLogits:
      return "largest logits";
    case ProfiledOp::kNone:
      break;
  }
  return "notifications, copies";
}

uint32_t OpLabel::number() const {
  const uint32_t format = weight.has_value() ? static_cast<uint32_t>(*weight) + 1 : 0;
  WEIR_CHECK(format < kOpFormats);
  return static_cast<uint32_t>(op) * kOpFormats + format;
}

OpLabel OpLabel::FromNumber(uint32_t number) {
  OpLabel label;
  label.op = static_cast<ProfiledOp>(number / kOpFormats);
  const uint32_t format = number % kOpFormats;
  if (format > 0) label.weight = static_cast<DType>(format - 1);
  return label;
}

OpWork ProductWork(const MatMulArgs& product) {
  if (product.tokens == 0) return {};
  return {.bytes = product.rows * RowBytes(product.dtype, product.columns),
          .operations = uint64_t{2} * product.tokens * product.rows * product.columns};
}

// Positions that any token attends to are read once; a token's operations are those of its own.
OpWork AttentionWork(const AttentionArgs& attention) {
  const uint64_t end = attention.positions_end;
  const uint64_t first = end - attention.tokens;  // position of the first token
  const uint64_t window = attention.window == 0 ? end : attention.window;
  uint64_t pairs = 0;  // of a token and a position
  for (uint64_t position = first; position < end; ++position) {
    pairs += std::min(position + 1, window);
  }
  const KvLayout& kv = attention.layout;
  const uint64_t columns = kv.key_columns + kv.value_columns;
  const uint64_t read = end - (first + 1 - std::min(first + 1, window));
  return {.bytes = attention.tokens == 0 ? 0 : read * KvPositionBytes(kv),
          .operations = 2 * pairs * attention.heads * columns};
}

void OpProfile::Begin(Stream& stream, const OpLabel& label, const OpWork& work) {
  WEIR_CHECK(stream.kind() == DeviceKind::kCpu);
  const uint32_t number = label.number();
  static_cast<CpuStream&>(stream).SetLabel(number);
  ++calls_[number];
  work_[number].bytes += work.bytes;
  work_[number].operations += work.operations;
}

void OpProfile::ReadInto(OpCounts* counts) const {
  counts->at_ns = clock_.NowNs();
  counts->idle_ns = counts->at_ns - times_.last_end_ns();
  for (uint32_t i = 0; i < kOpLabels; ++i) {
    const EntryTime& time = times_.times()[i];
    counts->counts[i] = {.calls = i == OpLabel().number() ? time.entries : calls_[i],
                         .run_ns = time.run_ns,
                         .wait_ns = time.wait_ns,
                         .work = work_[i]};
  }
}

}  // namespace weir
