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
#include "engine/host_products.h"
#include "engine/kv_pages.h"
#include "engine/model.h"
#include "engine/op_profile.h"
#include "engine/small_tensors.h"
#include "engine/workspace.h"
#include "kernels/ops.h"
#include "tiering/program.h"

namespace weir {

struct TransformerOptions {
  CutOptions cut;
  ActivationFormat activations = ActivationFormat::kQ16;
  KvFormats kv;
};

// What a pass works on; valid until its last step has run.
struct PassInput {
  uint32_t tokens = 0;
  uint32_t logit_rows = 0;     // logits for the last so many tokens; 0: none
  uint32_t positions_end = 0;  // above all positions
  // In the stream's address space:
  const int32_t* positions = nullptr;            // [T]
  const uint8_t* const* rows = nullptr;          // [T]: addresses of embedding rows
  uint8_t* const* const* page_tables = nullptr;  // [layer] -> page table of that layer
};

// Where a step runs and on what. Borrowed.
struct StepRun {
  Stream& stream;
  const SmallTensors& small;  // in the stream's address space, as all but where it says otherwise
  const Workspace& workspace;
  const PassInput& input;
  const std::vector<uint8_t*>& block_memory;  // by block: where it lies now
  // Passes with steps whose products the CPU computes for an accelerator; otherwise null.
  HostProducts* host_products = nullptr;
  // Of such a step: small tensors and blocks in host memory; `block_memory` is not used then.
  const SmallTensors* host_small = nullptr;
  const std::vector<uint8_t*>* host_block_memory = nullptr;
  // Of a CPU device's stream: told of every op. Null: nobody is.
  OpProfile* profile = nullptr;
};

class Transformer {
 public:
  // `model` must outlive this.
  Transformer(const Model& model, const TransformerOptions& options);

  const Program& program() const { return program_; }
  ActivationFormat activations() const { return activations_; }
  KvFormats kv_formats() const { return kv_; }
  BlockId rows_block() const { return rows_block_; }
  // Every block that holds rows of the embedding table because it is also the output matrix (tied);
  // empty otherwise.
  const std::vector<MatrixPiece>& embedding_pieces() const { return embedding_pieces_; }

  // Equal for steps that do the same work on other weights.
  std::string StepShape(StepId step) const;

  // Products that read the same input are of one group; groups are numbered in program order.
  uint32_t product_groups() const { return groups_; }
  // The groups that a step's products are of, in order.
  std::vector<uint32_t> ProductGroups(StepId step) const;
  // Products of the group that has most.
  uint32_t most_products() const;

  // Enqueues one step.
  void Enqueue(StepId step, const StepRun& run) const;

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
    uint32_t group = 0;           // of the matrix products
  };
  using Input = ProductInput;
  struct Output {
    float* data;
    uint64_t stride;
  };
  using Run = StepRun;

  void AddLayer(uint32_t layer, const CutOptions& cut);
  void Append(Op op);
  void MarkGroups();
  const Op* OnlyMultiplies(StepId step) const;

  void EnqueueOp(const Op& op, const Run& run) const;
  static ProfiledOp ProductOf(OpKind kind);
  static void Tell(const Run& run, const OpLabel& label, const OpWork& work = {});
  const Op* OpAfter(StepId step, size_t index) const;
  Input InputOf(const Op& op, const Run& run) const;
  void Embed(const Run& run) const;
  void Norm(const Run& run, const TensorInfo* weight, uint32_t tokens, const float* input) const;
  void Quantize(const Run& run, const Input& input) const;
  void Multiply(const Op& op, const Run& run, const Output& output, bool accumulate) const;
  void Attend(const Op& op, const Run& run) const;
  void Project(const Op& op, const Run& run, const TensorInfo* post_norm) const;
  void Activate(const Op& op, const Run& run) const;
  void FinishHead(const Run& run) const;

  const Model& model_;
  ActivationFormat activations_;
  KvFormats kv_;
  Program program_;
  BlockId rows_block_ = 0;
  std::vector<std::vector<Op>> step_ops_;  // parallel to program_.steps
  std::vector<MatrixPiece> embedding_pieces_;
  uint32_t groups_ = 0;
  bool group_is_open_ = false;  // while the program is built: the last op was a product
};

}  // namespace weir

#endif  // WEIR_ENGINE_TRANSFORMER_H_
