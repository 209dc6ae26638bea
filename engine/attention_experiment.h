// Attention done two ways on the CPU: naive, with the scores of all tokens in memory, and tiled,
// as the engine has it (kernels/ops.h Attention: an online softmax, after Dao et al. 2022,
// "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness"). Same queries,
// same float16 keys and values, a chunk of a prompt at the end of a context.
//
// Naive is three passes, each over all heads, with the engine's own matrix products, so that the
// difference is where scores live and not how well a loop is written: scores = queries x keys'
// rows, for every position of the context, those behind a token's own included; the softmax pass
// (kernels/softmax_rows.h); output = weights x values' columns, which lie transposed for it.
//
// Bytes are counted from the algorithms, each pass reading its matrices and writing its results
// once: T tokens, C positions, h query and g KV heads of k key and v value columns:
//   both    4 T h k   queries read       4 T h v   outputs written
//           g C (2 k + 2 v)              float16 keys and values
//   naive   16 T h C  float32 scores: written, read and written by the softmax, read
// What tiles read again comes from caches: 16 keys or columns of values, and a head's queries or
// weights, in the naive products; in the tiled pass the context's keys and values, by each block of
// at most 32 query rows, as long as the last cache holds them.
#ifndef WEIR_ENGINE_ATTENTION_EXPERIMENT_H_
#define WEIR_ENGINE_ATTENTION_EXPERIMENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cpu_device.h"
#include "models/config.h"

namespace weir {

struct AttentionShape {
  uint32_t heads = 0;
  uint32_t kv_heads = 0;
  uint32_t key_columns = 0;
  uint32_t value_columns = 0;
  float scale = 0;
  float soft_cap = 0;  // 0: none
};

// Of the model's first layer that attends to all positions, or of its first. A window is not taken
// over.
AttentionShape AttentionShapeOf(const ModelConfig& config);

struct AttentionSize {
  uint32_t tokens = 0;   // of the chunk
  uint32_t context = 0;  // positions, the chunk's included
};
uint64_t NaiveAttentionBytes(const AttentionShape& shape, const AttentionSize& size);
uint64_t TiledAttentionBytes(const AttentionShape& shape, const AttentionSize& size);
// What an AttentionExperiment takes: above all 4 T h C for the scores.
uint64_t AttentionMemoryBytes(const AttentionShape& shape, const AttentionSize& size);

// One size: made-up numbers in memory, and both ways to attend to them. One thread.
class AttentionExperiment {
 public:
  // The stream outlives it. ResourceExhausted when the memory cannot be had.
  static absl::StatusOr<std::unique_ptr<AttentionExperiment>> Make(const AttentionShape& shape,
                                                                   const AttentionSize& size,
                                                                   CpuStream* stream);

  // Each returns when it is done.
  void RunNaive();
  void RunTiled();

  // [tokens, heads, value_columns], of the last run of each.
  absl::Span<const float> naive() const { return naive_output_; }
  absl::Span<const float> tiled() const { return tiled_output_; }
  double LargestDifference() const;

  // What both read, in float32, exactly as it is in float16: [tokens, heads, key_columns],
  // [context, kv_heads, key_columns], [context, kv_heads, value_columns].
  absl::Span<const float> queries() const { return queries_; }
  absl::Span<const float> keys() const { return keys_; }
  absl::Span<const float> values() const { return values_; }

 private:
  AttentionExperiment(const AttentionShape& shape, const AttentionSize& size, CpuStream* stream);
  absl::Status Fill();
  void StorePages();
  void StorePlain();

  const AttentionShape shape_;
  const AttentionSize size_;
  CpuStream* const stream_;
  std::unique_ptr<Buffer> memory_;
  absl::Span<float> queries_, keys_, values_, naive_output_, tiled_output_, scores_;
  absl::Span<uint16_t> plain_keys_;    // [kv_heads, context, key_columns]
  absl::Span<uint16_t> plain_values_;  // [kv_heads, value_columns, context]
  std::vector<uint8_t*> pages_;
  std::vector<int32_t> positions_;  // of the context; the chunk's come last
};

struct AttentionComparison {
  AttentionSize size;
  double naive_s = 0;  // medians
  double tiled_s = 0;
  uint64_t naive_bytes = 0;
  uint64_t tiled_bytes = 0;
  double largest_difference = 0;
};

struct AttentionExperimentOptions {
  std::vector<uint32_t> contexts = {256, 1024, 4096};
  uint32_t chunk_tokens = 256;  // at most; a shorter context is a chunk as a whole
  uint32_t rounds = 5;          // the two by turns, each round beginning with the other
  double limit_s = 20;          // for each context: no round begins afterwards, but one is run
  uint32_t threads = 1;
  std::string isa;
};

// `progress` is called after each round with the share that is done; false: Cancelled. Errors: as
// MakeCpuDevice, and memory that cannot be had (AttentionMemoryBytes of the longest context).
absl::StatusOr<std::vector<AttentionComparison>> CompareAttention(
    const AttentionShape& shape, const AttentionExperimentOptions& options,
    const std::function<bool(double share)>& progress);

}  // namespace weir

#endif  // WEIR_ENGINE_ATTENTION_EXPERIMENT_H_
