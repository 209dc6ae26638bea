#include "engine/engine.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "kernels/cpu_device.h"

namespace weir {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint32_t kReaderCapacity = 256;

}  // namespace

// Lends the transformer to the machine, and reports progress as steps complete.
class Engine::Runner final : public StepRunner, public PassObserver {
 public:
  Runner(Engine& engine, std::function<void(const EngineProgress&)> on_progress)
      : engine_(engine), on_progress_(std::move(on_progress)) {}

  PassInput input;
  EngineProgress progress;

  void EnqueueStep(StepId step) override {
    engine_.plan_.transformer->Enqueue(step, *engine_.stream_, *engine_.small_, engine_.workspace_,
                                       input, engine_.machine_->block_memory());
  }

  void OnStepsDone(uint32_t done, uint32_t total) override {
    if (!on_progress_) return;
    progress.pass_share = static_cast<double>(done) / total;
    progress.bytes_read = engine_.reader_->stats().bytes_read;
    on_progress_(progress);
  }

 private:
  Engine& engine_;
  std::function<void(const EngineProgress&)> on_progress_;
};

Engine::Engine(const Model& model, ModelPlan plan) : model_(model), plan_(std::move(plan)) {}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Open(const Model& model, ModelPlan plan,
                                                     const EngineOptions& options) {
  std::unique_ptr<Engine> engine(new Engine(model, std::move(plan)));
  WEIR_RETURN_IF_ERROR(engine->Start(options));
  return engine;
}

Engine::~Engine() {
  if (scheduler_ != nullptr) {
    scheduler_->Drain();
    // The last step is known to be done before its notification has returned: that still wakes the
    // reader.
    stream_->Wait(stream_->Record());
  }
  if (reader_ != nullptr && reader_->stuck() > 0) LeaveStuckReadsBehind();
}

void Engine::LeaveStuckReadsBehind() {
  scheduler_.reset();
  machine_.reset();
  stream_.reset();  // before the device
  struct Remains {
    std::unique_ptr<Device> device;
    std::vector<std::unique_ptr<Buffer>> memory;
    std::unique_ptr<Reader> reader;
  };
  Remains remains;
  for (auto* buffer :
       {&ring_, &arena_, &kv_memory_, &workspace_memory_, &rows_memory_, &small_memory_}) {
    remains.memory.push_back(std::move(*buffer));
  }
  remains.device = std::move(device_);
  remains.reader = std::move(reader_);
  std::thread([remains = std::move(remains)]() mutable {
    remains.reader.reset();  // waits
    remains.memory.clear();
  }).detach();
}

absl::Status Engine::Start(const EngineOptions& options) {
  WEIR_ASSIGN_OR_RETURN(device_, MakeCpuDevice({.threads = options.threads, .isa = options.isa}));
  WEIR_RETURN_IF_ERROR(Allocate());
  stream_ = device_->NewStream();
  WEIR_RETURN_IF_ERROR(MakeReaders(options));

  const RunShape& shape = plan_.plan.shape;
  workspace_ = LayOutWorkspace(model_.config,
                               {.chunk_tokens = shape.chunk_tokens, .logit_rows = shape.logit_rows},
                               workspace_memory_->data());
  kv_pages_ = std::make_unique<KvPages>(model_.config, shape.context_tokens, kv_memory_->data());
  // Nothing uses the large allocations yet.
  Buffer* staging = workspace_memory_.get();
  for (Buffer* buffer : {ring_.get(), arena_.get()}) {
    if (buffer->size_bytes() > staging->size_bytes()) staging = buffer;
  }
  WEIR_ASSIGN_OR_RETURN(SmallTensors small,
                        SmallTensors::Load(model_, shape.context_tokens, *reader_,
                                           absl::MakeSpan(staging->data(), staging->size_bytes()),
                                           small_memory_->data()));
  small_ = std::move(small);

  runner_ = std::make_unique<Runner>(*this, options.on_progress);
  RealMachineOptions machine;
  machine.program = &program();
  machine.plan = &plan_.plan;
  for (const auto& file : model_.files) machine.files.push_back(file.get());
  machine.reader = reader_.get();
  machine.stream = stream_.get();
  machine.runner = runner_.get();
  machine.ring = ring_->data();
  machine.arena = arena_->data();
  machine.max_rows = shape.chunk_tokens;
  machine.cancel = options.cancel;
  cancel_ = options.cancel;
  machine_ = std::make_unique<RealMachine>(machine);
  row_reads_.reserve(shape.chunk_tokens);
  if (options.trace_records > 0) trace_ = std::make_unique<Trace>(options.trace_records);
  scheduler_ =
      std::make_unique<Scheduler>(program(), plan_.plan, *machine_, trace_.get(), runner_.get());
  return absl::OkStatus();
}

absl::Status Engine::Allocate() {
  const Plan& plan = plan_.plan;
  const WorkspaceShape workspace = {.chunk_tokens = plan.shape.chunk_tokens,
                                    .logit_rows = plan.shape.logit_rows};
  auto take = [this](uint64_t bytes, std::unique_ptr<Buffer>* buffer,
                     Touch touch = Touch::kNow) -> absl::Status {
    WEIR_ASSIGN_OR_RETURN(*buffer, device_->Allocate(std::max(bytes, kPage), kPage, touch));
    return absl::OkStatus();
  };
  WEIR_RETURN_IF_ERROR(take(plan.slots * plan.slot_bytes, &ring_));
  WEIR_RETURN_IF_ERROR(take(plan.overhead.kv, &kv_memory_));
  WEIR_RETURN_IF_ERROR(
      take(AlignUp(WorkspaceBytes(model_.config, workspace), kPage), &workspace_memory_));
  WEIR_RETURN_IF_ERROR(take(plan.overhead.rows, &rows_memory_));
  WEIR_RETURN_IF_ERROR(take(plan.overhead.small_tensors, &small_memory_));
  // Gigabytes, perhaps: the first pass fills them in order, and its reads need not wait for pages
  // that come last. It is asked for last, so that it is refused unless it fits beside the pages
  // that are taken already.
  return take(plan.resident_arena_bytes, &arena_, Touch::kAtFirstUse);
}

absl::Status Engine::MakeReaders(const EngineOptions& options) {
  reader_options_.capacity = kReaderCapacity;
  reader_options_.read_timeout_ns = options.read_timeout_ns;
  reader_options_.cancel = options.cancel;
  reader_options_.chunk_bytes = options.read_bytes;
  reader_options_.depth = options.read_depth;
  WEIR_ASSIGN_OR_RETURN(reader_, MakeReader(options.reader, reader_options_, &reader_note_));
  if (options.faults.has_value()) {
    reader_ = std::make_unique<FaultReader>(std::move(reader_), *options.faults, &clock_,
                                            reader_options_);
  }
  return absl::OkStatus();
}

absl::Status Engine::CheckFiles() {
  const uint64_t read_bytes = reader_->stats().bytes_read;
  if (std::exchange(checked_bytes_, read_bytes) == read_bytes) return absl::OkStatus();
  for (const auto& file : model_.files) WEIR_RETURN_IF_ERROR(file->CheckUnchanged());
  return absl::OkStatus();
}

// Where a token's embedding row lies if its block is in memory for good (a tied output matrix);
// otherwise null.
const uint8_t* Engine::ResidentRow(TokenId token) const {
  const std::vector<MatrixPiece>& pieces = plan_.transformer->embedding_pieces();
  const auto row = static_cast<uint32_t>(token);
  const auto after =
      std::partition_point(pieces.begin(), pieces.end(),
                           [row](const MatrixPiece& piece) { return piece.first_row <= row; });
  if (after == pieces.begin()) return nullptr;
  const MatrixPiece& piece = *(after - 1);
  if (!scheduler_->IsResident(piece.block)) return nullptr;
  const TensorInfo& table = *piece.tensor;
  return machine_->block_memory()[piece.block] + piece.memory_offset_bytes +
         (row - piece.first_row) * RowBytes(table.dtype, table.columns());
}

// Tells workspace and machine where this chunk's embedding rows are or come to be.
void Engine::PrepareRows(const Session& session, absl::Span<const TokenId> tokens) {
  const TensorInfo& table = *model_.tensors.embedding;
  const File& file = *model_.files[table.file];
  const uint64_t row_bytes = RowBytes(table.dtype, table.columns());
  const uint64_t staging_bytes = RowStagingBytes(model_);
  row_reads_.clear();
  for (size_t i = 0; i < tokens.size(); ++i) {
    workspace_.positions[i] = static_cast<int32_t>(session.position() + i);
    workspace_.rows[i] = ResidentRow(tokens[i]);
    if (workspace_.rows[i] != nullptr) continue;
    const AlignedRange range =
        file.Widen(table.offset_bytes + static_cast<uint64_t>(tokens[i]) * row_bytes, row_bytes);
    uint8_t* memory = rows_memory_->data() + i * staging_bytes;
    WEIR_CHECK(range.bytes <= staging_bytes);
    row_reads_.push_back({.file = &file,
                          .offset_bytes = range.offset_bytes,
                          .bytes = range.bytes,
                          .required_bytes = range.head_bytes + row_bytes,
                          .memory = memory});
    workspace_.rows[i] = memory + range.head_bytes;
  }
  machine_->SetRows(row_reads_);
}

absl::Status Engine::Forward(Session& session, absl::Span<const TokenId> tokens,
                             uint32_t logit_rows, bool expect_more) {
  const uint32_t chunk_tokens = plan_.plan.shape.chunk_tokens;
  WEIR_CHECK(!tokens.empty() && logit_rows <= plan_.plan.shape.logit_rows);
  WEIR_CHECK(logit_rows <= (tokens.size() - 1) % chunk_tokens + 1);
  for (TokenId token : tokens) {
    if (token >= 0 && static_cast<uint32_t>(token) < model_.config.vocabulary) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "token id ", token, " is outside the vocabulary of ", model_.config.vocabulary, " tokens"));
  }
  if (const uint32_t stuck = reader_->stuck(); stuck > 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(stuck, stuck == 1 ? " read has" : " reads have",
                     " had no answer and may still write to memory: nothing runs until the disk "
                     "answers. Look at its health and its link (dmesg), then start again"));
  }
  const uint32_t context_tokens = plan_.plan.shape.context_tokens;
  if (session.position() + uint64_t{tokens.size()} > context_tokens ||
      !session.Reserve(static_cast<uint32_t>(tokens.size()))) {
    return absl::OutOfRangeError(
        absl::StrCat("the context is full: ", session.position(), " tokens are stored and ",
                     tokens.size(), " more do not fit into ", context_tokens, ". Raise -c"));
  }
  runner_->progress.tokens_total = static_cast<uint32_t>(tokens.size());
  for (size_t begin = 0; begin < tokens.size(); begin += chunk_tokens) {
    const absl::Span<const TokenId> chunk = tokens.subspan(begin, chunk_tokens);
    const size_t left = tokens.size() - begin - chunk.size();
    const uint32_t rows = left == 0 ? logit_rows : 0;
    std::optional<PassSpec> next;
    if (left > 0) next = PassSpec{.head = left <= chunk_tokens && logit_rows > 0};
    if (left == 0 && expect_more) next = PassSpec{.head = true};
    runner_->progress.tokens_done = static_cast<uint32_t>(begin);
    runner_->progress.chunk_tokens = static_cast<uint32_t>(chunk.size());
    runner_->input = {.tokens = static_cast<uint32_t>(chunk.size()),
                      .logit_rows = rows,
                      .page_tables = session.page_tables()};
    if (IsCancelled()) return absl::CancelledError("cancelled");
    PrepareRows(session, chunk);
    const int64_t cpu_begin_ns = ThreadCpuNs();
    const absl::Status pass = scheduler_->RunPass({.head = rows > 0}, next);
    pass_cpu_ns_ += static_cast<uint64_t>(ThreadCpuNs() - cpu_begin_ns);
    // Whoever cancels shortens the time that reads have.
    if (absl::IsDeadlineExceeded(pass) && IsCancelled()) return absl::CancelledError("cancelled");
    WEIR_RETURN_IF_ERROR(pass);
    WEIR_RETURN_IF_ERROR(CheckFiles());
    for (TokenId token : chunk) session.Append(token);
  }
  logit_rows_ = logit_rows;
  return absl::OkStatus();
}

absl::Span<uint8_t> Engine::ring_before_use() {
  WEIR_CHECK(scheduler_->stats().transfers == 0);
  return absl::MakeSpan(ring_->data(), plan_.plan.slots * plan_.plan.slot_bytes);
}

absl::Span<const float> Engine::logits(uint32_t row) const {
  WEIR_CHECK(row < logit_rows_);
  const uint64_t vocabulary = model_.config.vocabulary;
  return absl::MakeConstSpan(workspace_.logits + row * vocabulary, vocabulary);
}

}  // namespace weir
