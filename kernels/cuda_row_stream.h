// A warp's way to read rows of a weight: rings of stages in shared memory, filled by asynchronous
// copies of aligned 16-byte words well ahead of their use, whatever the rows' alignment. Copies
// need no registers, so enough bytes are in flight with any format; the words at both ends of a
// stage may be copied twice, out of L2 the second time.
#ifndef WEIR_KERNELS_CUDA_ROW_STREAM_H_
#define WEIR_KERNELS_CUDA_ROW_STREAM_H_

#include <cstdint>

#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_namespace.h"
#include "kernels/cuda_unpack.h"

namespace weir::WEIR_CUDA_NAMESPACE {

// A piece of a weight: nothing outside [begin, end) is read.
struct WeightBytes {
  const uint8_t* begin;
  const uint8_t* end;
};

// Room for `bytes` at any alignment, and what loads touch beyond.
constexpr uint32_t StageBytes(uint32_t bytes) {
  return (bytes + 15 + kReadAheadBytes + 15) / 16 * 16;
}

WEIR_DEVICE uint32_t Misalignment(const uint8_t* address) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(address) % 16);
}

// Begins this lane's part of the copies of `end` bytes, at most kMostBytes, that follow a 16-byte
// aligned address: every 32nd word of 16 bytes, the first of which is at `lane_from` and goes to
// `lane_to`. All lanes call it with the same `end`; the caller commits. If `careful`, words may
// reach beyond the piece; of those only the bytes inside are copied, at once.
template <uint32_t kMostBytes>
WEIR_DEVICE void CopyToStage(const WeightBytes& weight, const uint8_t* lane_from, uint32_t end,
                             bool careful, uint8_t* lane_to) {
  constexpr uint32_t kRoundBytes = 16 * kWarpThreads;
  const uint32_t lane_at = 16 * LaneIndex();
  if (!careful) {
    WEIR_UNROLL
    for (uint32_t i = 0; i < kMostBytes; i += kRoundBytes) {
      if (lane_at + i < end) CopyAsync16(lane_to + i, lane_from + i, 16);
    }
    return;
  }
  for (uint32_t i = 0; lane_at + i < end; i += kRoundBytes) {
    const uint8_t* const word = lane_from + i;
    if (word >= weight.begin && word + 16 <= weight.end) {
      CopyAsync16(lane_to + i, word, 16);
      continue;
    }
    for (uint32_t j = 0; j < 16; ++j) {
      if (word + j >= weight.begin && word + j < weight.end) lane_to[i + j] = word[j];
    }
  }
}

// Rows first, first + stride, ... below `rows`, each in steps of kStepBytes (the last may be
// shorter), step after step. `ring` is kBytes of this warp's shared memory, 16-byte aligned.
template <uint32_t kStepBytes, uint32_t kStages>
class RowStream {
  static_assert(kStepBytes % 16 == 0, "so that the alignment is the row's");

 public:
  static constexpr uint32_t kStageBytes = StageBytes(kStepBytes);
  static constexpr uint32_t kBytes = kStages * kStageBytes;

  WEIR_DEVICE RowStream(const WeightBytes& weight, uint32_t row_bytes, uint32_t rows,
                        uint32_t first, uint32_t stride, uint8_t* ring)
      : weight_(weight),
        ring_(ring),
        row_bytes_(row_bytes),
        rows_(rows),
        stride_(stride),
        row_(first) {
    for (; stage_ + 1 < kStages; ++stage_) BeginStep();
  }

  // Where the next step's bytes lie until the next call, Misalignment(row) bytes in.
  WEIR_DEVICE const uint8_t* Next() {
    WaitForCopies<kStages - 2>();
    SyncWarp();  // all lanes' copies are seen by all, and all are done with the step before
    BeginStep();
    stage_ = stage_ + 1 < kStages ? stage_ + 1 : 0;
    return ring_ + stage_ * kStageBytes;
  }

 private:
  // Begins to fill the stage before the one that is next, which is done with.
  WEIR_DEVICE void BeginStep() {
    if (row_ < rows_) {
      const uint8_t* const from = weight_.begin + uint64_t{row_} * row_bytes_ + at_;
      const uint32_t skip = Misalignment(from);
      const uint32_t left = row_bytes_ - at_;
      // Only words of the rows at both ends can reach beyond the piece.
      const uint32_t end_rows = row_bytes_ < 16 ? 16 : 1;
      const bool careful = row_ < end_rows || row_ + end_rows >= rows_;
      CopyToStage<kStepBytes + 15>(weight_, from - skip + 16 * LaneIndex(),
                                   skip + (left < kStepBytes ? left : kStepBytes), careful,
                                   ring_ + stage_ * kStageBytes + 16 * LaneIndex());
      const bool row_ends = left <= kStepBytes;
      at_ = row_ends ? 0 : at_ + kStepBytes;
      row_ = row_ends ? row_ + stride_ : row_;
    }
    CommitCopies();
  }

  const WeightBytes weight_;
  uint8_t* const ring_;
  const uint32_t row_bytes_;
  const uint32_t rows_;
  const uint32_t stride_;
  uint32_t row_;     // of the next copy
  uint32_t at_ = 0;  // where in the row it begins
  uint32_t stage_ = 0;
};

}  // namespace weir::WEIR_CUDA_NAMESPACE

#endif  // WEIR_KERNELS_CUDA_ROW_STREAM_H_
