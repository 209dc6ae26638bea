// Transformer: the one forward path. Builds the Program (which step needs which block) from a
// model's config and tensors, and enqueues the ops of a step on a stream. Architectures differ as
// data in ModelConfig, not here.
//
// Before the first layer x = embedding rows; each layer adds attention and a gated feed-forward to
// x (with norms before, and for gemma 2/3 after, each); the head norms x and multiplies by the
// output matrix.
#ifndef WEIR_ENGINE_TRANSFORMER_H_
#define WEIR_ENGINE_TRANSFORMER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/block_cutter.h"
#include "engine/kv_pages.h"
#include "engine/model.h"
#include "engine/small_tensors.h"
#include "engine/workspace.h"
#include "kernels/ops.h"
#include "tiering/program.h"

namespace weir {

struct TransformerOptions {
  CutOptions cut;
  ActivationFormat activations = ActivationFormat::kQ16;
};

// What a pass works on; valid until its last step has run.
struct PassInput {
  uint32_t tokens = 0;
  uint32_t logit_rows = 0;  // logits for the last so many tokens; 0: none
  // [layer] -> page table of that layer, in the stream's address space.
  uint8_t* const* const* page_tables = nullptr;
};

class Transformer {
 public:
  // `model` must outlive this.
  Transformer(const Model& model, const TransformerOptions& options);

  const Program& program() const { return program_; }
  BlockId rows_block() const { return rows_block_; }
  // Every block that holds rows of the embedding table because it is also the output matrix (tied);
  // empty otherwise.
  const std::vector<MatrixPiece>& embedding_pieces() const { return embedding_pieces_; }

  // Equal for steps that do the same work on other weights.
  std::string StepShape(StepId step) const;

  // Enqueues one step. `block_memory[id]` is where each block lies now.
  void Enqueue(StepId step, Stream& stream, const SmallTensors& small, const Workspace& workspace,
               const PassInput& input, const std::vector<uint8_t*>& block_memory) const;

 private:
  enum class OpKind : uint8_t {
    kEmbed,
    kAttentionNorm,
    kQkv,
    kAttention,
    kAttentionOutput,
    kFeedForwardNorm,
    kGateUp,
    kActivation,
    kDown,
    kFinalNorm,
    kHead,
    kFinishHead,
  };
  struct Op {
    OpKind kind;
    uint32_t layer = 0;
    MatrixPiece piece = {};      // of the matrix products
    uint32_t output_column = 0;  // where the matrix starts in its output row
    const TensorInfo* bias = nullptr;
    bool last_of_matrix = false;  // kAttentionOutput, kDown: post norms may follow
  };
  // [T, columns] at `stride` floats from row to row.
  struct Input {
    const float* data;
    uint64_t stride;
  };
  struct Output {
    float* data;
    uint64_t stride;
  };
  struct Run;  // arguments of one Enqueue

  void AddLayer(uint32_t layer, const CutOptions& cut);
  void Append(const Op& op);
  void MarkGroups();
  const Op* OnlyMultiplies(StepId step) const;

  void EnqueueOp(const Op& op, const Run& run) const;
  void Embed(const Run& run) const;
  void Norm(const Run& run, const TensorInfo* weight, uint32_t tokens, const float* input) const;
  void Quantize(const Run& run, const Input& input, uint32_t tokens, uint32_t columns) const;
  void Multiply(const Op& op, const Run& run, const Input& input, uint32_t tokens,
                const Output& output, bool accumulate) const;
  void Attend(const Op& op, const Run& run) const;
  void NormAndRotate(const Op& op, const Run& run, const TensorInfo* norm, float* data,
                     uint32_t heads) const;
  void Project(const Op& op, const Run& run, const Input& input, const TensorInfo* post_norm) const;
  void Activate(const Op& op, const Run& run) const;
  void FinishHead(const Run& run) const;

  const Model& model_;
  ActivationFormat activations_;
  Program program_;
  BlockId rows_block_ = 0;
  std::vector<std::vector<Op>> step_ops_;  // parallel to program_.steps
  std::vector<MatrixPiece> embedding_pieces_;
};

}  // namespace weir

#endif  // WEIR_ENGINE_TRANSFORMER_H_
