#include "engine/transformer.h"

#include <xxhash.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

// Everything that decides what a block id means: a saved plan is bound to it.
uint64_t Fingerprint(const Model& model, const Program& program) {
  std::string text;
  for (const ModelFile& file : model.index.files) absl::StrAppend(&text, file.size_bytes, "\n");
  for (const Block& block : program.blocks) {
    absl::StrAppend(&text, block.label, " ", block.memory_bytes);
    for (const Segment& s : block.segments)
      absl::StrAppend(&text, " ", s.file, ":", s.offset_bytes, "+", s.bytes);
    absl::StrAppend(&text, "\n");
  }
  return XXH64(text.data(), text.size(), 0);
}

uint32_t QueryColumns(const ModelConfig& config, const LayerConfig& layer) {
  return layer.heads * config.key_columns;
}
uint32_t KeyColumns(const ModelConfig& config, const LayerConfig& layer) {
  return layer.kv_heads * config.key_columns;
}

}  // namespace

Transformer::Transformer(const Model& model, const TransformerOptions& options)
    : model_(model), activations_(options.activations), kv_(options.kv) {
  Block rows;
  rows.kind = BlockKind::kRows;
  rows.label = absl::StrCat(model.tensors.embedding->name, " rows");
  rows_block_ = static_cast<BlockId>(program_.blocks.size());
  program_.blocks.push_back(std::move(rows));
  program_.steps.push_back({.label = "embed", .needs = {rows_block_}});
  step_ops_.emplace_back();
  Append({.kind = OpKind::kEmbed});
  for (uint32_t layer = 0; layer < model.config.layers.size(); ++layer)
    AddLayer(layer, options.cut);

  Append({.kind = OpKind::kFinalNorm});
  program_.head_step = static_cast<StepId>(program_.steps.size());
  const std::vector<MatrixPiece> head =
      CutMatrices({model.tensors.output}, options.cut, &program_.blocks);
  for (const MatrixPiece& piece : head) Append({.kind = OpKind::kHead, .piece = piece});
  Append({.kind = OpKind::kFinishHead});
  if (model.tensors.output == model.tensors.embedding) embedding_pieces_ = head;
  MarkGroups();
  program_.fingerprint = Fingerprint(model, program_);
}

// The layer's matrices in the order of their use, each with the op that multiplies by it; ops
// without weights go into the step that ends just before.
void Transformer::AddLayer(uint32_t layer, const CutOptions& cut) {
  const LayerTensors& t = model_.tensors.layers[layer];
  const LayerConfig& shape = model_.config.layers[layer];
  const uint32_t key_column = QueryColumns(model_.config, shape);
  const uint32_t value_column = key_column + KeyColumns(model_.config, shape);
  struct Use {
    OpKind kind;
    const TensorInfo* matrix;
    uint32_t output_column;
    const TensorInfo* bias;
    std::optional<OpKind> then;  // once the whole matrix is done
  };
  std::vector<Use> uses;
  if (t.fused_qkv != nullptr) {
    uses.push_back({OpKind::kQkv, t.fused_qkv, 0, nullptr, OpKind::kAttention});
  } else {
    uses.push_back({OpKind::kQkv, t.query, 0, t.query_bias, {}});
    uses.push_back({OpKind::kQkv, t.key, key_column, t.key_bias, {}});
    uses.push_back({OpKind::kQkv, t.value, value_column, t.value_bias, OpKind::kAttention});
  }
  uses.push_back({OpKind::kAttentionOutput, t.attention_output, 0, t.attention_output_bias,
                  OpKind::kFeedForwardNorm});
  if (t.gate != nullptr) uses.push_back({OpKind::kGateUp, t.gate, 0, nullptr, {}});
  const uint32_t up_column = t.gate != nullptr ? shape.feed_forward_columns : 0;
  uses.push_back({OpKind::kGateUp, t.up, up_column, nullptr, OpKind::kActivation});
  uses.push_back({OpKind::kDown, t.down, 0, nullptr, {}});

  std::vector<const TensorInfo*> matrices;
  matrices.reserve(uses.size());
  for (const Use& use : uses) matrices.push_back(use.matrix);
  Append({.kind = OpKind::kAttentionNorm, .layer = layer});
  size_t at = 0;
  for (const MatrixPiece& piece : CutMatrices(matrices, cut, &program_.blocks)) {
    while (uses[at].matrix != piece.tensor) ++at;
    const bool last = piece.first_row + piece.rows == piece.tensor->rows();
    Append({.kind = uses[at].kind,
            .layer = layer,
            .piece = piece,
            .output_column = uses[at].output_column,
            .bias = uses[at].bias,
            .last_of_matrix = last});
    if (last && uses[at].then.has_value()) Append({.kind = *uses[at].then, .layer = layer});
  }
}

// Puts an op at the end of the program; a piece of another block than the step's begins a new step.
void Transformer::Append(Op op) {
  const bool is_product = op.piece.tensor != nullptr;
  // Between products of different inputs stand the ops that make the second one.
  if (is_product && !group_is_open_) ++groups_;
  group_is_open_ = is_product;
  if (is_product) {
    op.group = groups_ - 1;
    const std::vector<BlockId>& needs = program_.steps.back().needs;
    if (needs.size() != 1 || needs.front() != op.piece.block) {
      const Block& block = program_.blocks[op.piece.block];
      program_.steps.push_back(
          {.label = block.label, .needs = {op.piece.block}, .payload_bytes = block.payload_bytes});
      step_ops_.emplace_back();
    }
  }
  step_ops_.back().push_back(op);
}

// Steps that only multiply the same input, each into rows of its own, need no order among them.
void Transformer::MarkGroups() {
  for (StepId step = 1; step < program_.steps.size(); ++step) {
    const Op* before = OnlyMultiplies(step - 1);
    const Op* after = OnlyMultiplies(step);
    program_.steps[step].joins_previous = before != nullptr && after != nullptr &&
                                          before->kind == after->kind &&
                                          before->layer == after->layer;
  }
}

// The step's first op if all are products with the same input and nothing else; otherwise null.
const Transformer::Op* Transformer::OnlyMultiplies(StepId step) const {
  const std::vector<Op>& ops = step_ops_[step];
  for (const Op& op : ops) {
    const LayerTensors& layer = model_.tensors.layers[op.layer];
    const bool then_norms =
        op.last_of_matrix &&
        ((op.kind == OpKind::kAttentionOutput && layer.attention_post_norm != nullptr) ||
         (op.kind == OpKind::kDown && layer.feed_forward_post_norm != nullptr));
    if (op.piece.tensor == nullptr || op.kind != ops.front().kind || then_norms) return nullptr;
  }
  return &ops.front();
}

std::vector<uint32_t> Transformer::ProductGroups(StepId step) const {
  std::vector<uint32_t> groups;
  for (const Op& op : step_ops_[step]) {
    const bool counts = op.piece.tensor != nullptr && (groups.empty() || groups.back() != op.group);
    if (counts) groups.push_back(op.group);
  }
  return groups;
}

uint32_t Transformer::most_products() const {
  std::vector<uint32_t> products(groups_, 0);
  for (const std::vector<Op>& ops : step_ops_) {
    for (const Op& op : ops) {
      if (op.piece.tensor != nullptr) ++products[op.group];
    }
  }
  return *std::max_element(products.begin(), products.end());
}

std::string Transformer::StepShape(StepId step) const {
  std::string shape;
  for (const Op& op : step_ops_[step]) {
    const LayerConfig& layer = model_.config.layers[op.layer];
    absl::StrAppend(&shape, static_cast<int>(op.kind), "/", layer.heads, "/", layer.kv_heads, "/",
                    layer.window, "/", layer.feed_forward_columns, "/", op.last_of_matrix);
    if (op.piece.tensor != nullptr) {
      absl::StrAppend(&shape, "/", static_cast<int>(op.piece.tensor->dtype), "/", op.piece.rows,
                      "/", op.piece.tensor->columns());
    }
    shape.push_back(' ');
  }
  return shape;
}

void Transformer::Enqueue(StepId step, const StepRun& run) const {
  const std::vector<Op>& ops = step_ops_[step];
  for (size_t i = 0; i < ops.size(); ++i) {
    const bool is_product = ops[i].piece.tensor != nullptr;
    if (run.host_products != nullptr && !is_product) run.host_products->Close();
    EnqueueOp(ops[i], run);
    const Op* next = OpAfter(step, i);
    if (run.host_products == nullptr || is_product || next == nullptr) continue;
    // As early as can be, before the stream waits for the blocks of the products.
    const Input input = next->piece.tensor == nullptr ? Input() : InputOf(*next, run);
    if (input.tokens > 0) run.host_products->Open(next->group, input);
  }
}

const Transformer::Op* Transformer::OpAfter(StepId step, size_t index) const {
  if (index + 1 < step_ops_[step].size()) return &step_ops_[step][index + 1];
  return step + 1 < step_ops_.size() ? &step_ops_[step + 1].front() : nullptr;
}

// Of a product.
Transformer::Input Transformer::InputOf(const Op& op, const Run& run) const {
  const Workspace& w = run.workspace;
  const auto columns = static_cast<uint32_t>(op.piece.tensor->columns());
  switch (op.kind) {
    case OpKind::kAttentionOutput:
      return {w.attended, columns, columns, run.input.tokens};
    case OpKind::kDown:
      return {w.gate_up, w.gate_up_columns, columns, run.input.tokens};
    case OpKind::kHead:
      return {w.normed, columns, columns, run.input.logit_rows};
    default:
      return {w.normed, columns, columns, run.input.tokens};
  }
}

void Transformer::EnqueueOp(const Op& op, const Run& run) const {
  const Workspace& w = run.workspace;
  const uint32_t tokens = run.input.tokens;
  const LayerTensors& layer = model_.tensors.layers[op.layer];
  switch (op.kind) {
    case OpKind::kEmbed:
      return Embed(run);
    case OpKind::kAttentionNorm:
      return Norm(run, layer.attention_norm, tokens, w.residual);
    case OpKind::kQkv:
      return Multiply(op, run, {w.qkv + op.output_column, w.qkv_columns}, /*accumulate=*/false);
    case OpKind::kAttention:
      return Attend(op, run);
    case OpKind::kAttentionOutput:
      return Project(op, run, layer.attention_post_norm);
    case OpKind::kFeedForwardNorm:
      return Norm(run, layer.feed_forward_norm, tokens, w.residual);
    case OpKind::kGateUp:
      return Multiply(op, run, {w.gate_up + op.output_column, w.gate_up_columns},
                      /*accumulate=*/false);
    case OpKind::kActivation:
      return Activate(op, run);
    case OpKind::kDown:
      return Project(op, run, layer.feed_forward_post_norm);
    case OpKind::kFinalNorm:
      if (run.input.logit_rows == 0) return;
      return Norm(run, model_.tensors.output_norm, run.input.logit_rows,
                  w.residual + uint64_t{tokens - run.input.logit_rows} * model_.config.columns);
    case OpKind::kHead:
      return Multiply(op, run, {w.logits, model_.config.vocabulary}, /*accumulate=*/false);
    case OpKind::kFinishHead:
      return FinishHead(run);
  }
}

// Before an op is enqueued.
void Transformer::Tell(const Run& run, const OpLabel& label, const OpWork& work) {
  if (run.profile != nullptr) run.profile->Begin(run.stream, label, work);
}

void Transformer::Embed(const Run& run) const {
  const DType dtype = model_.tensors.embedding->dtype;
  Tell(run, {ProfiledOp::kEmbed, dtype},
       {.bytes = run.input.tokens * RowBytes(dtype, model_.config.columns)});
  EmbedRows(run.stream, {.rows = run.input.rows,
                         .dtype = dtype,
                         .scale = model_.config.embedding_scale,
                         .output = run.workspace.residual,
                         .tokens = run.input.tokens,
                         .columns = model_.config.columns});
}

// Into `normed`, and quantised: every norm feeds matrix products.
void Transformer::Norm(const Run& run, const TensorInfo* weight, uint32_t tokens,
                       const float* input) const {
  const uint32_t columns = model_.config.columns;
  Tell(run, {ProfiledOp::kNorm});
  RmsNorm(run.stream, {.input = input,
                       .input_stride = columns,
                       .weight = run.small.Find(weight),
                       .output = run.workspace.normed,
                       .output_stride = columns,
                       .tokens = tokens,
                       .groups = 1,
                       .columns = columns,
                       .epsilon = model_.config.norm_epsilon});
  Quantize(run, {run.workspace.normed, columns, columns, tokens});
}

void Transformer::Quantize(const Run& run, const Input& input) const {
  // Formats in blocks have rows of whole blocks, so a width that is no multiple of 32 has none.
  if (activations_ == ActivationFormat::kF32 || input.columns % 32 != 0) return;
  Tell(run, {ProfiledOp::kQuantize});
  QuantizeActivations(run.stream, {.input = input.data,
                                   .input_stride = input.stride,
                                   .output = run.workspace.quantized,
                                   .tokens = input.tokens,
                                   .columns = input.columns,
                                   .format = activations_});
}

ProfiledOp Transformer::ProductOf(OpKind kind) {
  switch (kind) {
    case OpKind::kAttentionOutput:
      return ProfiledOp::kAttentionOutput;
    case OpKind::kGateUp:
      return ProfiledOp::kGateUp;
    case OpKind::kDown:
      return ProfiledOp::kDown;
    case OpKind::kHead:
      return ProfiledOp::kHead;
    default:
      WEIR_CHECK(kind == OpKind::kQkv);
      return ProfiledOp::kQkv;
  }
}

void Transformer::Multiply(const Op& op, const Run& run, const Output& output,
                           bool accumulate) const {
  const MatrixPiece& piece = op.piece;
  const Input input = InputOf(op, run);
  const bool on_host = run.host_block_memory != nullptr;
  const std::vector<uint8_t*>& block_memory = on_host ? *run.host_block_memory : run.block_memory;
  const float* bias = (on_host ? *run.host_small : run.small).Find(op.bias);
  MatMulArgs args;
  if (activations_ != ActivationFormat::kF32 && UsesQuantizedActivations(piece.tensor->dtype)) {
    args.quantized = run.workspace.quantized;
    args.quantized_format = activations_;
  } else {
    args.input = input.data;
    args.input_stride = input.stride;
  }
  args.weight = block_memory[piece.block] + piece.memory_offset_bytes;
  args.dtype = piece.tensor->dtype;
  args.bias = bias == nullptr ? nullptr : bias + piece.first_row;
  args.output = output.data + piece.first_row;
  args.output_stride = output.stride;
  args.tokens = input.tokens;
  args.rows = piece.rows;
  args.columns = input.columns;
  args.accumulate = accumulate;
  if (!on_host) {
    Tell(run, {ProductOf(op.kind), args.dtype}, ProductWork(args));
    return MatMul(run.stream, args);
  }
  run.host_products->Multiply(args, op.output_column + piece.first_row);
}

void Transformer::Attend(const Op& op, const Run& run) const {
  const ModelConfig& config = model_.config;
  const LayerConfig& layer = config.layers[op.layer];
  const Workspace& w = run.workspace;
  float* keys = w.qkv + QueryColumns(config, layer);
  float* values = keys + KeyColumns(config, layer);
  const uint32_t tokens = run.input.tokens;
  const LayerTensors& tensors = model_.tensors.layers[op.layer];
  const RopeConfig& rope = config.ropes[layer.rope];
  KvLayout layout = LayerKvLayout(config, kv_, op.layer);
  layout.order = KvOrderOf(run.stream.kind());
  uint8_t* const* pages = run.input.page_tables[op.layer];
  Tell(run, {ProfiledOp::kPrepareAttention});
  PrepareAttention(run.stream, {.queries = w.qkv,
                                .keys = keys,
                                .values = values,
                                .stride = w.qkv_columns,
                                .query_norm = run.small.Find(tensors.query_norm),
                                .key_norm = run.small.Find(tensors.key_norm),
                                .norm_epsilon = config.norm_epsilon,
                                .inverse_frequency = run.small.inverse_frequency(layer.rope),
                                .rotary_columns = rope.rotary_columns,
                                .magnitude = rope.magnitude,
                                .rope = rope.layout,
                                .pages = pages,
                                .positions = run.input.positions,
                                .tokens = tokens,
                                .heads = layer.heads,
                                .layout = layout});
  const uint32_t columns = layer.heads * config.value_columns;
  const AttentionArgs attention = {.queries = w.qkv,
                                   .queries_stride = w.qkv_columns,
                                   .pages = pages,
                                   .positions = run.input.positions,
                                   .output = w.attended,
                                   .output_stride = columns,
                                   .tokens = tokens,
                                   .heads = layer.heads,
                                   .layout = layout,
                                   .scale = config.attention_scale,
                                   .soft_cap = config.attention_soft_cap,
                                   .window = layer.window,
                                   .positions_end = run.input.positions_end};
  if (run.profile != nullptr) Tell(run, {ProfiledOp::kAttention}, AttentionWork(attention));
  Attention(run.stream, attention);
  Quantize(run, {w.attended, columns, columns, tokens});
}

// A projection back to the residual: added at once, or by way of its post norm.
void Transformer::Project(const Op& op, const Run& run, const TensorInfo* post_norm) const {
  const Workspace& w = run.workspace;
  const uint32_t columns = model_.config.columns;
  if (post_norm == nullptr) {
    return Multiply(op, run, {w.residual, columns}, /*accumulate=*/true);
  }
  Multiply(op, run, {w.projected, columns}, /*accumulate=*/false);
  if (!op.last_of_matrix) return;
  if (run.host_products != nullptr) run.host_products->Close();
  Tell(run, {ProfiledOp::kNorm});
  RmsNorm(run.stream, {.input = w.projected,
                       .input_stride = columns,
                       .weight = run.small.Find(post_norm),
                       .output = w.residual,
                       .output_stride = columns,
                       .tokens = run.input.tokens,
                       .groups = 1,
                       .columns = columns,
                       .epsilon = model_.config.norm_epsilon,
                       .accumulate = true});
}

void Transformer::Activate(const Op& op, const Run& run) const {
  const Workspace& w = run.workspace;
  const uint32_t columns = model_.config.layers[op.layer].feed_forward_columns;
  Tell(run, {ProfiledOp::kActivation});
  GatedActivation(run.stream, {.gate = w.gate_up,
                               .up = w.gate_up + columns,
                               .input_stride = w.gate_up_columns,
                               .output = w.gate_up,
                               .output_stride = w.gate_up_columns,
                               .tokens = run.input.tokens,
                               .columns = columns,
                               .activation = model_.config.activation});
  Quantize(run, {w.gate_up, w.gate_up_columns, columns, run.input.tokens});
}

void Transformer::FinishHead(const Run& run) const {
  if (model_.config.final_soft_cap <= 0) return;
  Tell(run, {ProfiledOp::kSoftCap});
  SoftCap(run.stream, {.data = run.workspace.logits,
                       .stride = model_.config.vocabulary,
                       .tokens = run.input.logit_rows,
                       .columns = model_.config.vocabulary,
                       .cap = model_.config.final_soft_cap});
}

}  // namespace weir
