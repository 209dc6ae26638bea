// TopLogits: blocks reduce chunks of a row to their k best, launch after launch, until one block
// is left, which sorts. A vocabulary of 151,936 takes two launches up to k = 107, and three beyond.
//
// A logit and its id make one key of 64 bits that sorts as TopLogits orders, and no two are equal:
// the k best of a chunk are those at or above the k-th largest key, found bit by bit. It costs the
// 32 bits of the logit and, only where equals straddle the k-th place, some of the id's.
#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/ops_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / kWarpThreads;
constexpr uint32_t kThreadKeys = 16;
constexpr uint32_t kChunk = kThreads * kThreadKeys;
constexpr uint64_t kMostRows = 65535;  // of a launch
static_assert(kMaxTopLogits <= kThreads && kChunk >= 2 * kMaxTopLogits);

// Of no logit: below every logit's key.
constexpr uint64_t kNoKey = 0;
constexpr uint32_t kLowestFloat = 0xFF7FFFFF;

// Larger for larger logits, and for the lower id of equals.
WEIR_DEVICE uint64_t KeyOf(float logit, uint32_t id) {
  uint32_t bits = FloatToBits(logit);
  if (logit != logit) bits = kLowestFloat;
  if (logit == 0) bits = 0;  // both zeros are equal
  const uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000;
  return (uint64_t{ordered} << 32) | ~id;
}
WEIR_DEVICE float LogitOf(uint64_t key) {
  const auto ordered = static_cast<uint32_t>(key >> 32);
  return BitsToFloat((ordered >> 31) != 0 ? ordered & 0x7FFFFFFF : ~ordered);
}
WEIR_DEVICE int32_t IdOf(uint64_t key) { return static_cast<int32_t>(~static_cast<uint32_t>(key)); }

struct ReduceCall {
  TopLogitsArgs args;
  const uint64_t* from;  // [rows, count] keys, or null: the logits
  uint64_t* to;          // [rows, blocks, k] keys, or null: values and ids, of one block a row
  uint64_t count;        // of a row
  uint64_t first_row;    // of args, for block y = 0
};

WEIR_DEVICE uint64_t LoadKey(const ReduceCall& call, uint64_t index) {
  if (index >= call.count) return kNoKey;
  if (call.from != nullptr) return call.from[BlockY() * call.count + index];
  const uint64_t row = call.first_row + BlockY();
  return KeyOf(call.args.logits[row * call.args.stride + index], static_cast<uint32_t>(index));
}

// Sum over the block, the same in every thread. `sums`: [kWarps], another than at the last call.
WEIR_DEVICE uint32_t BlockCount(uint32_t own, uint32_t* sums) {
  for (uint32_t mask = kWarpThreads / 2; mask > 0; mask /= 2) own += ShuffleXor(own, mask);
  if (LaneIndex() == 0) sums[WarpIndex()] = own;
  SyncBlock();
  uint32_t all = 0;
  for (uint32_t i = 0; i < kWarps; ++i) all += sums[i];
  return all;
}

// The largest number that at least k of the block's keys reach; or, when all bits above some make
// out exactly k keys, those bits alone.
WEIR_DEVICE uint64_t ThresholdOf(const uint64_t (&keys)[kThreadKeys], uint32_t k) {
  WEIR_SHARED uint32_t sums[2][kWarps];
  uint64_t threshold = 0;
  for (uint32_t bit = 64; bit-- > 0;) {
    const uint64_t higher = threshold | (uint64_t{1} << bit);
    uint32_t reach = 0;
    WEIR_UNROLL
    for (uint32_t i = 0; i < kThreadKeys; ++i) reach += keys[i] >= higher ? 1 : 0;
    reach = BlockCount(reach, sums[bit % 2]);
    if (reach >= k) threshold = higher;
    if (reach == k) break;
  }
  return threshold;
}

// The first k places hold the block's k best, in any order; kNoKey where there are fewer keys.
WEIR_DEVICE void Collect(const uint64_t (&keys)[kThreadKeys], uint32_t k, uint64_t* best) {
  WEIR_SHARED uint32_t taken;
  if (ThreadIndex() == 0) taken = 0;
  if (ThreadIndex() < k) best[ThreadIndex()] = kNoKey;
  const uint64_t threshold = ThresholdOf(keys, k);
  SyncBlock();
  for (uint32_t i = 0; i < kThreadKeys; ++i) {
    if (keys[i] >= threshold && keys[i] != kNoKey) best[AtomicAdd(&taken, 1)] = keys[i];
  }
  SyncBlock();
}

// Blocks: x chunks of a row, y rows.
WEIR_KERNEL(kThreads, 2) void ReduceKernel(ReduceCall call) {
  WEIR_SHARED uint64_t best[kMaxTopLogits];
  const uint32_t k = call.args.k;
  uint64_t keys[kThreadKeys];
  WEIR_UNROLL
  for (uint32_t i = 0; i < kThreadKeys; ++i) {
    keys[i] = LoadKey(call, uint64_t{BlockX()} * kChunk + i * kThreads + ThreadIndex());
  }
  Collect(keys, k, best);
  const uint32_t i = ThreadIndex();
  if (i >= k) return;
  if (call.to != nullptr) {
    call.to[(uint64_t{BlockY()} * BlockCountX() + BlockX()) * k + i] = best[i];
    return;
  }
  uint32_t place = 0;
  for (uint32_t other = 0; other < k; ++other) place += best[other] > best[i] ? 1 : 0;
  const uint64_t row = call.first_row + BlockY();
  call.args.values[row * k + place] = LogitOf(best[i]);
  call.args.ids[row * k + place] = IdOf(best[i]);
}

// Rows [first_row, first_row + rows); `keys` has room for what all launches leave.
void ReduceRows(CudaStream& stream, const TopLogitsArgs& args, uint64_t first_row, uint32_t rows,
                uint64_t* keys) {
  ReduceCall call = {args, nullptr, nullptr, args.vocabulary, first_row};
  LaunchShape shape;
  shape.blocks_y = rows;
  shape.threads = kThreads;
  for (;;) {
    shape.blocks_x = static_cast<uint32_t>(CeilDiv(call.count, kChunk));
    call.to = shape.blocks_x == 1 ? nullptr : keys;
    Launch(stream, shape, ReduceKernel, call);
    if (shape.blocks_x == 1) return;
    call.from = keys;
    call.count = uint64_t{shape.blocks_x} * args.k;
    keys += rows * call.count;
  }
}

}  // namespace

void TopLogitsCuda(CudaStream& stream, const TopLogitsArgs& args) {
  WEIR_CHECK(args.k >= 1 && args.k <= kMaxTopLogits && args.k <= args.vocabulary);
  // All launches' keys together: each has at most half as many as the one before, plus k.
  const uint64_t row_keys = 2 * (CeilDiv(args.vocabulary, kChunk) + 1) * args.k;
  const uint64_t fitting_rows = stream.scratch_bytes() / (row_keys * sizeof(uint64_t));
  WEIR_CHECK(fitting_rows > 0);
  const uint64_t most_rows = fitting_rows < kMostRows ? fitting_rows : kMostRows;
  for (uint64_t row = 0; row < args.rows; row += most_rows) {
    const uint64_t rows = args.rows - row < most_rows ? args.rows - row : most_rows;
    ReduceRows(stream, args, row, static_cast<uint32_t>(rows),
               reinterpret_cast<uint64_t*>(stream.scratch()));
  }
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
