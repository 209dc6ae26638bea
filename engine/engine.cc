#include "engine/engine.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "kernels/cpu_device.h"

namespace weir {
namespace {

constexpr uint32_t kReaderCapacity = 256;

}  // namespace

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
    cpu_stream_->Wait(cpu_stream_->Record());
    if (site_ != nullptr) site_->EndStreams();
    runner_.reset();  // its graphs are the device's
  }
  if (reader_ != nullptr && reader_->stuck() > 0) LeaveStuckReadsBehind();
}

void Engine::LeaveStuckReadsBehind() {
  scheduler_.reset();
  machine_.reset();
  host_products_.reset();
  cpu_stream_.reset();  // before the devices
  site_.reset();
  struct Remains {
    std::unique_ptr<Device> device;
    std::vector<std::unique_ptr<Buffer>> memory;
    std::unique_ptr<Reader> reader;
  };
  Remains remains;
  host_.MoveTo(&remains.memory);
  remains.device = std::move(cpu_);
  remains.reader = std::move(reader_);
  std::thread([remains = std::move(remains)]() mutable {
    remains.reader.reset();  // waits
    remains.memory.clear();
  }).detach();
}

absl::Status Engine::Start(const EngineOptions& options) {
  WEIR_CHECK(plan_.plan.accelerator.has_value() == options.accelerator.is_used());
  WEIR_CHECK(options.profile == nullptr || !options.accelerator.is_used());
  profile_ = options.profile;
  WEIR_RETURN_IF_ERROR(OpenDevices(options));
  WEIR_RETURN_IF_ERROR(MakeReaders(options));
  WEIR_RETURN_IF_ERROR(LoadSmallTensors());
  const RunShape& shape = plan_.plan.shape;
  uint8_t* const kv = site_ != nullptr ? site_->memory().kv : host_.kv->data();
  kv_pages_ = std::make_unique<KvPages>(model_.config, shape.kv, shape.context_tokens, kv);
  inputs_ = std::make_unique<PassInputs>(model_, shape, host_.inputs->data(),
                                         site_ != nullptr ? site_->memory().inputs : nullptr);
  if (has_cpu_steps_) MakeHostProducts();
  MakeRunner(options);
  MakeMachine(options);
  if (options.trace_records > 0) trace_ = std::make_unique<Trace>(options.trace_records);
  scheduler_ =
      std::make_unique<Scheduler>(program(), plan_.plan, *machine_, trace_.get(), runner_.get());
  return absl::OkStatus();
}

// Beside an accelerator the CPU device has a team only where the plan has work for it.
absl::Status Engine::OpenDevices(const EngineOptions& options) {
  const Plan& plan = plan_.plan;
  const bool accelerated = plan.accelerator.has_value();
  for (StepId step = 0; accelerated && step < program().steps.size(); ++step) {
    const bool on_cpu = StepDevice(program(), plan, step, /*wide=*/false) == ComputeDevice::kCpu;
    has_cpu_steps_ = has_cpu_steps_ || on_cpu;
  }
  const bool emulated = options.accelerator.kind == AcceleratorKind::kEmulated;
  const uint32_t cpu_threads = accelerated && !has_cpu_steps_ ? 1 : options.threads;
  WEIR_ASSIGN_OR_RETURN(cpu_, MakeCpuDevice({.threads = cpu_threads,
                                             .isa = options.isa,
                                             .other_threads = emulated ? options.threads : 0,
                                             .times = profile_ ? profile_->times() : nullptr}));
  WEIR_ASSIGN_OR_RETURN(host_, TakeHostMemory(*cpu_, model_, plan));
  if (accelerated) {
    const AcceleratorThreads threads = {.threads = options.threads,
                                        .other_threads = has_cpu_steps_ ? cpu_threads : 0,
                                        .isa = options.isa};
    WEIR_ASSIGN_OR_RETURN(site_,
                          AcceleratorSite::Open(options.accelerator, threads, model_, plan, host_));
  }
  cpu_stream_ = cpu_->NewStream();
  return absl::OkStatus();
}

absl::Status Engine::LoadSmallTensors() {
  Buffer& staging = host_.largest();  // nothing uses it yet
  uint8_t* const small = host_.small->data();
  WEIR_ASSIGN_OR_RETURN(
      SmallTensors loaded,
      SmallTensors::Load(model_, plan_.plan.shape.context_tokens, *reader_,
                         absl::MakeSpan(staging.data(), staging.size_bytes()), small));
  host_small_ = std::move(loaded);
  if (site_ == nullptr) return absl::OkStatus();
  device_small_ = host_small_->MovedTo(small, site_->memory().small);
  return site_->Load(site_->memory().small, small, SmallTensors::Bytes(model_));
}

void Engine::MakeHostProducts() {
  const Plan& plan = plan_.plan;
  HostProducts::Options options;
  options.activations = plan_.transformer->activations();
  options.shape = HostProductsShapeOf(plan.shape, plan.accelerator->in_place_tokens);
  options.host_memory = host_.products->data();
  options.device_memory = site_->memory().products;
  options.most_products = plan_.transformer->most_products();
  options.groups.resize(plan_.transformer->product_groups(), false);
  for (StepId step = 0; step < program().steps.size(); ++step) {
    if (StepDevice(program(), plan, step, /*wide=*/false) != ComputeDevice::kCpu) continue;
    for (uint32_t group : plan_.transformer->ProductGroups(step)) options.groups[group] = true;
  }
  const HostProducts::Streams streams = {.compute = &site_->compute(),
                                         .download = &site_->download(),
                                         .upload = &site_->upload(),
                                         .cpu = cpu_stream_.get()};
  host_products_ = std::make_unique<HostProducts>(model_.config, streams, options);
}

void Engine::MakeRunner(const EngineOptions& options) {
  PassRunner::Options runner;
  runner.transformer = plan_.transformer.get();
  runner.vocabulary = model_.config.vocabulary;
  top_logits_ = options.top_logits;
  WEIR_CHECK(top_logits_ <= std::min(kMaxTopLogits, model_.config.vocabulary));
  runner.top_logits = top_logits_;
  runner.profile = profile_;
  runner.graphs = options.accelerator.graphs;
  runner.inputs = inputs_.get();
  runner.cpu = cpu_stream_.get();
  runner.compute = site_ != nullptr ? &site_->compute() : cpu_stream_.get();
  runner.small = site_ != nullptr ? &*device_small_ : &*host_small_;
  runner.workspace =
      LayOutWorkspace(model_.config, WorkspaceShapeOf(plan_.plan.shape),
                      site_ != nullptr ? site_->memory().workspace : host_.workspace->data());
  if (site_ != nullptr) {
    runner.host_logits = reinterpret_cast<float*>(host_.logits->data());
    runner.host_small = &*host_small_;
    runner.host_products = host_products_.get();
  }
  if (options.on_progress) {
    runner.on_progress = [this, report = options.on_progress](double pass_share) {
      progress_.pass_share = pass_share;
      progress_.bytes_read = reader_->stats().bytes_read;
      report(progress_);
    };
  }
  runner_ = std::make_unique<PassRunner>(runner);
}

void Engine::MakeMachine(const EngineOptions& options) {
  RealMachineOptions machine;
  machine.program = &program();
  machine.plan = &plan_.plan;
  for (const auto& file : model_.files) machine.files.push_back(file.get());
  machine.reader = reader_.get();
  machine.stream = cpu_stream_.get();
  machine.runner = runner_.get();
  machine.ring = host_.ring->data();
  machine.arena = host_.arena->data();
  machine.max_rows = plan_.plan.shape.chunk_tokens;
  machine.cancel = cancel_ = options.cancel;
  if (site_ != nullptr) {
    machine.accelerator =
        MachineAccelerator{.device = &site_->device(),
                           .compute = &site_->compute(),
                           .copy = &site_->copy(),
                           .ring = site_->memory().ring,
                           .arena = site_->memory().arena,
                           .runs_far_ahead = options.accelerator.kind == AcceleratorKind::kCuda ||
                                             options.accelerator.runs_far_ahead};
  }
  machine_ = std::make_unique<RealMachine>(machine);
  runner_->SetMachine(machine_.get());
}

std::string Engine::device_name() const {
  return site_ != nullptr ? site_->device().name() : cpu_->name();
}

uint64_t Engine::accelerator_bytes_in_use() const {
  if (site_ == nullptr) return 0;
  const DeviceMemory memory = site_->device().memory();
  return memory.total_bytes - memory.free_bytes;
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

// Where a token's embedding row lies if its block stays in memory (a tied output matrix).
RowPlace Engine::FindRow(TokenId token) const {
  const std::vector<MatrixPiece>& pieces = plan_.transformer->embedding_pieces();
  const auto row = static_cast<uint32_t>(token);
  const auto after =
      std::partition_point(pieces.begin(), pieces.end(),
                           [row](const MatrixPiece& piece) { return piece.first_row <= row; });
  if (after == pieces.begin()) return {};
  const MatrixPiece& piece = *(after - 1);
  if (!scheduler_->IsResident(piece.block)) return {};
  const TensorInfo& table = *piece.tensor;
  const bool on_accelerator = plan_.plan.placements[piece.block].home == Tier::kDevice;
  const std::vector<uint8_t*>& memory =
      on_accelerator ? machine_->device_block_memory() : machine_->block_memory();
  return {.address = memory[piece.block] + piece.memory_offset_bytes +
                     (row - piece.first_row) * RowBytes(table.dtype, table.columns()),
          .on_accelerator = on_accelerator};
}

absl::Status Engine::CheckForward(absl::Span<const TokenId> tokens) const {
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
  return absl::OkStatus();
}

// Whether no step of a pass of so many tokens is the CPU's.
bool Engine::IsWide(size_t tokens) const {
  return has_cpu_steps_ && tokens > plan_.plan.accelerator->in_place_tokens;
}

absl::Status Engine::Forward(Session& session, absl::Span<const TokenId> tokens,
                             uint32_t logit_rows, bool expect_more) {
  const uint32_t chunk_tokens = plan_.plan.shape.chunk_tokens;
  WEIR_CHECK(!tokens.empty() && logit_rows <= plan_.plan.shape.logit_rows);
  WEIR_CHECK(logit_rows <= (tokens.size() - 1) % chunk_tokens + 1);
  WEIR_RETURN_IF_ERROR(CheckForward(tokens));
  const uint32_t context_tokens = plan_.plan.shape.context_tokens;
  if (session.position() + uint64_t{tokens.size()} > context_tokens ||
      !session.Reserve(static_cast<uint32_t>(tokens.size()))) {
    return absl::OutOfRangeError(
        absl::StrCat("the context is full: ", session.position(), " tokens are stored and ",
                     tokens.size(), " more do not fit into ", context_tokens, ". Raise -c"));
  }
  progress_.tokens_total = static_cast<uint32_t>(tokens.size());
  for (size_t begin = 0; begin < tokens.size(); begin += chunk_tokens) {
    const absl::Span<const TokenId> chunk = tokens.subspan(begin, chunk_tokens);
    const size_t left = tokens.size() - begin - chunk.size();
    std::optional<PassSpec> next;
    if (left > 0) {
      next = PassSpec{.head = left <= chunk_tokens && logit_rows > 0,
                      .wide = IsWide(std::min<size_t>(left, chunk_tokens))};
    }
    if (left == 0 && expect_more) next = PassSpec{.head = true};
    progress_.tokens_done = static_cast<uint32_t>(begin);
    WEIR_RETURN_IF_ERROR(RunChunk(session, chunk, left == 0 ? logit_rows : 0, next));
  }
  logit_rows_ = logit_rows;
  return absl::OkStatus();
}

bool Engine::BringsNoWeights() {
  const Plan& plan = plan_.plan;
  for (BlockId id = 0; !all_loaded_ && id < program().blocks.size(); ++id) {
    if (program().blocks[id].kind != BlockKind::kWeights) continue;
    if (plan.placements[id].home != Tier::kDevice || !scheduler_->IsResident(id)) return false;
  }
  return all_loaded_ = true;
}

absl::Status Engine::RunChunk(Session& session, absl::Span<const TokenId> chunk,
                              uint32_t logit_rows, const std::optional<PassSpec>& next) {
  if (IsCancelled()) return absl::CancelledError("cancelled");
  progress_.chunk_tokens = static_cast<uint32_t>(chunk.size());
  const PassSpec spec = {.head = logit_rows > 0, .wide = IsWide(chunk.size())};
  machine_->SetRows(
      inputs_->Prepare(session, chunk, [this](TokenId token) { return FindRow(token); }));
  runner_->BeginPass(logit_rows, spec.wide, BringsNoWeights());
  const int64_t cpu_begin_ns = ThreadCpuNs();
  const absl::Status pass = scheduler_->RunPass(spec, next);
  pass_cpu_ns_ += static_cast<uint64_t>(ThreadCpuNs() - cpu_begin_ns);
  // Whoever cancels shortens the time that reads have.
  if (absl::IsDeadlineExceeded(pass) && IsCancelled()) return absl::CancelledError("cancelled");
  WEIR_RETURN_IF_ERROR(pass);
  WEIR_RETURN_IF_ERROR(CheckFiles());
  for (TokenId token : chunk) session.Append(token);
  return absl::OkStatus();
}

absl::Span<uint8_t> Engine::IdleRing() {
  scheduler_->Drain();
  return absl::MakeSpan(host_.ring->data(), plan_.plan.slots * plan_.plan.slot_bytes);
}

absl::StatusOr<LinkFigures> Engine::MeasureLink() {
  WEIR_CHECK(site_ != nullptr && scheduler_->stats().transfers == 0);
  WEIR_ASSIGN_OR_RETURN(const absl::Span<uint8_t> host, machine_->PinForProbe());
  const AcceleratorPlan& part = *plan_.plan.accelerator;
  const bool through_ring = part.slots > 0;
  const CopyMemory memory = {
      .host = host,
      .device = through_ring ? absl::MakeSpan(site_->memory().ring, part.slots * part.slot_bytes)
                             : absl::MakeSpan(site_->memory().arena, part.arena_bytes)};
  return ProbeLink(site_->copy(), memory, program().max_memory_bytes());
}

void Engine::ReadProfile(OpCounts* counts) {
  WEIR_CHECK(profile_ != nullptr);
  cpu_stream_->Wait(cpu_stream_->Record());
  profile_->ReadInto(counts);
}

absl::Span<const float> Engine::logits(uint32_t row) const {
  WEIR_CHECK(row < logit_rows_ && top_logits_ == 0);
  const uint64_t vocabulary = model_.config.vocabulary;
  return absl::MakeConstSpan(runner_->logits() + row * vocabulary, vocabulary);
}

absl::Span<const float> Engine::top_values(uint32_t row) const {
  WEIR_CHECK(row < logit_rows_ && top_logits_ > 0);
  return absl::MakeConstSpan(runner_->top_values() + uint64_t{row} * top_logits_, top_logits_);
}

absl::Span<const TokenId> Engine::top_ids(uint32_t row) const {
  WEIR_CHECK(row < logit_rows_ && top_logits_ > 0);
  return absl::MakeConstSpan(runner_->top_ids() + uint64_t{row} * top_logits_, top_logits_);
}

}  // namespace weir
