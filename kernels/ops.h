// The whole list of operations a transformer needs, as free functions: `Stream&` first, arguments
// as one struct of raw pointers and shapes. Every op returns at once; pointers must stay valid
// until the stream has run it. Which implementation runs is decided by stream.kind().
//
// Shapes are written [slowest, ..., fastest]; rows are contiguous unless a stride is given. T is
// the number of tokens in the call. Activations are float32. Every op is deterministic: the result
// does not depend on the number of threads, nor a token's result on the T of the call it came in
// (each output element sums in one fixed order), nor on how a weight was cut into row pieces. On a
// CUDA device that holds of MatMul up to 8 tokens; products of more go through float16, and there a
// token's result may depend on T and on the pieces, but equal calls give equal results.
#ifndef WEIR_KERNELS_OPS_H_
#define WEIR_KERNELS_OPS_H_

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/device.h"
#include "kernels/dtype.h"
#include "kernels/kv_layout.h"

namespace weir {

// ---- activations for matrix products ------------------------------------------------------------

enum class ActivationFormat : uint8_t {
  kF32,  // weights are dequantised to float32 and multiplied in float32 (but see MatMul)
  kQ16,  // weights in blocks: activations quantised to 16 bits in groups of 32, integer products
  kQ8,   // the same with 8 bits: less work for prompts, and an error that logits show
};

// Bytes that QuantizeActivations needs for [tokens, columns] in either width (an opaque layout of
// the device's).
// columns: multiple of 32.
uint64_t QuantizedActivationBytes(uint64_t tokens, uint64_t columns);

struct QuantizeActivationsArgs {
  const float* input;  // [T, columns], row stride input_stride floats
  uint64_t input_stride;
  uint8_t* output;  // QuantizedActivationBytes(T, columns), 64-byte aligned
  uint32_t tokens;
  uint32_t columns;
  ActivationFormat format;  // kQ16 or kQ8
};
void QuantizeActivations(Stream& stream, const QuantizeActivationsArgs& args);

// ---- output[t, r] = sum_c input[t, c] * weight[r, c] + bias[r]
// -------------------------------------

// On a CUDA device a product of more than 8 tokens rounds both factors to float16 after scaling
// each row and token by its own power of two, whatever the formats, and sums in float32: relative
// to the sum of |input * weight|, an error of at most 2^-10 and 2^-24 for each column.
struct MatMulArgs {
  // Exactly one of the two inputs. `quantized` only for block formats (float weights are always
  // multiplied in float32): ask UsesQuantizedActivations.
  const float* input = nullptr;  // [T, columns], row stride input_stride floats
  uint64_t input_stride = 0;
  const uint8_t* quantized = nullptr;  // from QuantizeActivations with the same T and columns
  ActivationFormat quantized_format = ActivationFormat::kQ16;  // as it was given there
  const uint8_t* weight =
      nullptr;  // [rows, columns] in `dtype`, rows contiguous; any byte alignment
  DType dtype = DType::kF32;
  const float* bias = nullptr;  // [rows] or null
  float* output = nullptr;      // [T, rows] at row stride output_stride floats
  uint64_t output_stride = 0;
  uint32_t tokens = 0;
  uint32_t rows = 0;        // of this piece of the weight
  uint32_t columns = 0;     // multiple of the dtype's block_elements
  bool accumulate = false;  // add to output (a residual) rather than overwrite
};
void MatMul(Stream& stream, const MatMulArgs& args);

// Whether MatMul takes `quantized` for weights of this dtype: true for every block format.
bool UsesQuantizedActivations(DType dtype);

// ---- rows of an embedding table
// -------------------------------------------------------------------

struct EmbedRowsArgs {
  const uint8_t* const* rows;  // [T] addresses of rows of the table; any byte alignment
  DType dtype;
  float scale;    // multiplies every element (gemma: sqrt(columns))
  float* output;  // [T, columns]
  uint32_t tokens;
  uint32_t columns;
};
void EmbedRows(Stream& stream, const EmbedRowsArgs& args);

// ---- normalisation
// --------------------------------------------------------------------------------

// output = input / sqrt(mean(input^2) + epsilon) * weight, over groups of `columns` (RMSNorm,
// Zhang & Sennrich 2019). input may equal output. A "row" is one group: T rows of d_model, or
// T * heads rows of head_dim for q/k norms (row strides let heads lie inside a wider row).
struct RmsNormArgs {
  const float* input;
  uint64_t input_stride;  // floats from token to token
  const float* weight;    // [columns]; null means ones
  float* output;
  uint64_t output_stride;
  uint32_t tokens;
  uint32_t groups;  // per token, contiguous: heads, or 1
  uint32_t columns;
  float epsilon;
  bool accumulate = false;  // output += rather than output = (gemma's post norms into the residual)
};
void RmsNorm(Stream& stream, const RmsNormArgs& args);

// ---- rotary position embedding
// ----------------------------------------------------------------------

enum class RopeLayout : uint8_t {
  kInterleaved,  // pairs (2i, 2i+1): llama's GGUF layout ("norm")
  kHalves,       // pairs (i, i + rotary_columns/2): "neox"
};

// Rotates the first rotary_columns of every head in place: angle = position * inverse_frequency[i],
// the sine and cosine multiplied by `magnitude` (YaRN's attention factor; 1 otherwise).
struct RopeArgs {
  float* data;  // [T, heads, head_columns], token stride `stride` floats
  uint64_t stride;
  const int32_t* positions;        // [T]
  const float* inverse_frequency;  // [rotary_columns / 2]
  uint32_t tokens;
  uint32_t heads;
  uint32_t head_columns;
  uint32_t rotary_columns;
  float magnitude;
  RopeLayout layout;
};
void Rope(Stream& stream, const RopeArgs& args);

// ---- KV pages and attention
// -------------------------------------------------------------------------

struct StoreKvArgs {
  const float* keys;  // [T, kv_heads, key_columns] at keys_stride
  uint64_t keys_stride;
  const float* values;  // [T, kv_heads, value_columns] at values_stride
  uint64_t values_stride;
  uint8_t* const* pages;     // page table of this layer: pages[position / page_tokens]
  const int32_t* positions;  // [T]
  uint32_t tokens;
  KvLayout layout;
};
void StoreKv(Stream& stream, const StoreKvArgs& args);

// All that lies between the projections and attention: RmsNorm of each query and key head where
// there are weights for it, Rope of both, StoreKv. The same results as those ops, on a CUDA device
// in one launch, for heads of at most 256 columns.
struct PrepareAttentionArgs {
  float* queries;           // [T, heads, key_columns], in place
  float* keys;              // [T, kv_heads, key_columns]; what it holds afterwards is unspecified
  const float* values;      // [T, kv_heads, value_columns]
  uint64_t stride;          // of all three, floats from token to token
  const float* query_norm;  // [key_columns], or null: no norm
  const float* key_norm;    // likewise
  float norm_epsilon;
  const float* inverse_frequency;  // [rotary_columns / 2]
  uint32_t rotary_columns;
  float magnitude;
  RopeLayout rope;
  uint8_t* const* pages;
  const int32_t* positions;  // [T]
  uint32_t tokens;
  uint32_t heads;
  KvLayout layout;
};
void PrepareAttention(Stream& stream, const PrepareAttentionArgs& args);

// Causal attention over the pages with an online softmax: token t attends to positions p with
// max(0, positions[t] - window + 1) <= p <= positions[t] (window 0: from 0). Scores are scaled,
// then, if soft_cap > 0, soft_cap * tanh(score / soft_cap). Query head h reads KV head h / (heads /
// kv_heads).
//
// On a CUDA device: positions ascend by one, pages begin at multiples of 16 bytes, heads have at
// most 256 columns, and a token's result depends on the T of its call in so far as one of at most 8
// tokens weights values more exactly than a longer one (kernels/attention_block_cuda.h). Up to 8,
// it does not.
struct AttentionArgs {
  const float* queries;  // [T, heads, key_columns] at queries_stride
  uint64_t queries_stride;
  uint8_t* const* pages;
  const int32_t* positions;  // [T]
  float* output;             // [T, heads, value_columns] at output_stride
  uint64_t output_stride;
  uint32_t tokens;
  uint32_t heads;
  KvLayout layout;
  float scale;
  float soft_cap;   // 0: none
  uint32_t window;  // 0: none
  // Above all positions: a CUDA device, which alone looks at it, launches enough blocks for so
  // many, so that one recorded launch can serve many positions. Results do not depend on it.
  uint32_t positions_end = 0;
};
void Attention(Stream& stream, const AttentionArgs& args);
// Of a head's keys and values on a CUDA device.
inline constexpr uint32_t kMostCudaHeadColumns = 256;

// ---- element-wise
// -------------------------------------------------------------------------------------

enum class GateActivation : uint8_t { kSilu, kGeluTanh };

// output[t, c] = activation(gate[t, c]) * up[t, c]; output may equal gate.
struct GatedActivationArgs {
  const float* gate;
  const float* up;
  uint64_t input_stride;  // of both
  float* output;
  uint64_t output_stride;
  uint32_t tokens;
  uint32_t columns;
  GateActivation activation;
};
void GatedActivation(Stream& stream, const GatedActivationArgs& args);

// accumulator[t, c] += input[t, c].
struct AddArgs {
  const float* input;
  uint64_t input_stride;
  float* accumulator;
  uint64_t accumulator_stride;
  uint32_t tokens;
  uint32_t columns;
};
void Add(Stream& stream, const AddArgs& args);

// data = cap * tanh(data / cap), in place: gemma 2's final logits.
struct SoftCapArgs {
  float* data;
  uint64_t stride;
  uint32_t tokens;
  uint32_t columns;
  float cap;  // > 0
};
void SoftCap(Stream& stream, const SoftCapArgs& args);

// ---- the largest logits
// -------------------------------------------------------------------------------

// The k largest of each row, the largest first, equals by ascending id; what is not a number is
// the lowest finite float. In this order the sampler (engine/sampler.h) takes them.
constexpr uint32_t kMaxTopLogits = 256;
inline float OrderedLogit(float logit) {
  return std::isnan(logit) ? std::numeric_limits<float>::lowest() : logit;
}
struct TopLogitsArgs {
  const float* logits;  // [rows, vocabulary] at `stride` floats
  uint64_t stride;
  float* values;  // [rows, k]
  int32_t* ids;   // [rows, k]
  uint32_t rows;
  uint32_t vocabulary;
  uint32_t k;  // 1 to the lesser of vocabulary and kMaxTopLogits
};
void TopLogits(Stream& stream, const TopLogitsArgs& args);

}  // namespace weir

#endif  // WEIR_KERNELS_OPS_H_
