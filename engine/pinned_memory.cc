#include "engine/pinned_memory.h"

#include <algorithm>

#include "io/base.h"

namespace weir {
namespace {

// Large enough that a call costs little beside the pages, small enough that nobody waits long.
constexpr uint64_t kPieceBytes = 32 * kMiB;

}  // namespace

PinnedMemory::PinnedMemory(Device& device, uint8_t* memory, uint64_t bytes,
                           const std::vector<uint64_t>& begins)
    : device_(device), memory_(memory) {
  for (uint64_t begin : begins) {
    if (begin >= bytes) break;
    const bool joins = !pieces_.empty() && begin - pieces_.back().begin_bytes < kPieceBytes;
    if (!joins) pieces_.push_back({.begin_bytes = begin, .end_bytes = bytes, .range = nullptr});
  }
  for (size_t i = 0; i + 1 < pieces_.size(); ++i) pieces_[i].end_bytes = pieces_[i + 1].begin_bytes;
}

absl::Status PinnedMemory::Ensure(const uint8_t* data) {
  const auto offset = static_cast<uint64_t>(data - memory_);
  const auto after =
      std::partition_point(pieces_.begin(), pieces_.end(),
                           [offset](const Piece& piece) { return piece.begin_bytes <= offset; });
  WEIR_CHECK(after != pieces_.begin());
  Piece& piece = *(after - 1);
  WEIR_CHECK(offset < piece.end_bytes);
  if (piece.range != nullptr) return absl::OkStatus();
  WEIR_ASSIGN_OR_RETURN(
      piece.range, device_.Pin(memory_ + piece.begin_bytes, piece.end_bytes - piece.begin_bytes));
  return absl::OkStatus();
}

absl::StatusOr<absl::Span<uint8_t>> PinnedMemory::First() {
  WEIR_CHECK(!pieces_.empty());
  WEIR_RETURN_IF_ERROR(Ensure(memory_));
  return absl::MakeSpan(memory_, pieces_.front().end_bytes);
}

}  // namespace weir
