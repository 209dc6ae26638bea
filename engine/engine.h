// Engine: the composition root. Owns memory, devices, reader, machine and scheduler for one model
// and one plan, and drives passes. Logic lives elsewhere.
#ifndef WEIR_ENGINE_ENGINE_H_
#define WEIR_ENGINE_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/accelerator.h"
#include "engine/accelerator_site.h"
#include "engine/host_products.h"
#include "engine/kv_pages.h"
#include "engine/link_probe.h"
#include "engine/model.h"
#include "engine/op_profile.h"
#include "engine/pass_inputs.h"
#include "engine/pass_runner.h"
#include "engine/planner.h"
#include "engine/real_machine.h"
#include "engine/run_memory.h"
#include "engine/session.h"
#include "engine/small_tensors.h"
#include "io/clock.h"
#include "io/fault_reader.h"
#include "io/reader.h"
#include "kernels/device.h"
#include "tiering/scheduler.h"
#include "tiering/trace.h"

namespace weir {

struct EngineProgress {
  uint32_t tokens_done = 0;  // of this Forward
  uint32_t tokens_total = 0;
  uint32_t chunk_tokens = 0;  // of the pass that runs now
  double pass_share = 0;      // of that pass, 0..1
  uint64_t bytes_read = 0;    // since the engine opened
};

struct EngineOptions {
  std::string reader = "auto";         // "auto", "uring", "threads"
  uint64_t read_bytes = 1 << 20;       // of each read, and
  uint32_t read_depth = 32;            // reads in flight: as ReaderOptions has them
  std::optional<FaultOptions> faults;  // injected between the reader and the engine
  uint32_t threads = 1;
  std::string isa;                 // empty: the best this CPU has
  AcceleratorOptions accelerator;  // one is used when the plan has one (checked)
  // Instead of all logits Forward leaves so many of the largest, at most kMaxTopLogits and the
  // vocabulary (checked): what Sampler::candidates asks for. 0: all.
  uint32_t top_logits = 0;
  size_t trace_records = 0;  // 0: no trace
  // Told of every op and its time; outlives the engine. Without an accelerator only (checked).
  // Null: nothing is timed.
  OpProfile* profile = nullptr;
  // While set, the pass in progress ends with Cancelled and none begins. May be null.
  const std::atomic<bool>* cancel = nullptr;
  // What the kernel has not answered by then fails, and with it the pass: io/reader.h.
  int64_t read_timeout_ns = kDefaultReadTimeoutNs;
  std::function<void(const EngineProgress&)>
      on_progress;  // on the calling thread, as steps complete
};

struct EngineStats {
  SchedulerStats scheduler;
  ReaderStats reader;
  // CPU time of reading and scheduling: of the calling thread during passes, and of the reader's
  // own threads where it has some. Computing is not in it.
  uint64_t reading_cpu_ns = 0;
};

// One thread uses it.
class Engine {
 public:
  // Takes the memory of the plan at once; nothing is allocated for weights, KV or activations
  // later. `model` must outlive the engine. The plan's transformer moves in.
  static absl::StatusOr<std::unique_ptr<Engine>> Open(const Model& model, ModelPlan plan,
                                                      const EngineOptions& options);
  // Waits for reads and kernels in flight; a read that hangs for its timeout at most, and two
  // seconds once `cancel` is set. Reader and memory of reads that are stuck even then
  // (Reader::stuck) stay behind on a thread of their own, until the kernel answers or the process
  // ends.
  ~Engine();

  std::unique_ptr<Session> NewSession() { return std::make_unique<Session>(*kv_pages_); }

  // Appends `tokens` to the session, in chunks of the plan's size, and leaves logits for the last
  // `logit_rows` of them (at most the plan's, and at most the last chunk's tokens). `expect_more`:
  // another Forward will follow, so its weights are read ahead.
  //
  // OutOfRange when the context is full; token ids outside the vocabulary are InvalidArgument;
  // Cancelled. DataLoss where reads failed or a file was changed while it was read,
  // DeadlineExceeded where they had no answer; FailedPrecondition as long as such a read may still
  // write to memory. After an error the session holds the tokens of the chunks that were completed.
  absl::Status Forward(Session& session, absl::Span<const TokenId> tokens, uint32_t logit_rows,
                       bool expect_more);

  // [vocabulary], row 0 being the oldest of the rows asked for. Valid until the next Forward. Not
  // where EngineOptions::top_logits asks for a part (checked).
  absl::Span<const float> logits(uint32_t row) const;
  // That part, as TopLogits of kernels/ops.h orders it: [top_logits] each.
  uint32_t top_logits() const { return top_logits_; }
  absl::Span<const float> top_values(uint32_t row) const;
  absl::Span<const TokenId> top_ids(uint32_t row) const;

  // What the link to the accelerator delivers, measured with the memory that blocks will pass
  // through, for a tenth of a second. Before the first Forward only (checked); the plan has an
  // accelerator. Errors: as Device::Pin.
  absl::StatusOr<LinkFigures> MeasureLink();

  // The memory that streamed blocks pass through, to measure the disk with what the run uses: until
  // the next Forward. Waits until nothing is in flight; what was read ahead is dropped. Empty when
  // nothing streams.
  absl::Span<uint8_t> IdleRing();

  const Plan& plan() const { return plan_.plan; }
  const Program& program() const { return plan_.transformer->program(); }
  const Trace* trace() const { return trace_.get(); }
  std::string_view reader_name() const { return reader_->name(); }
  const ReaderOptions& reader_options() const { return reader_options_; }
  const std::string& reader_note() const {
    return reader_note_;
  }  // why io_uring is not used, or empty
  // The accelerator where there is one, otherwise the CPU.
  std::string device_name() const;
  // Of the accelerator: what is allocated now, its scratch included; 0 without one.
  uint64_t accelerator_bytes_in_use() const;
  // Passes that ran as graphs.
  uint64_t graph_runs() const { return runner_->graph_runs(); }
  // Waits for the last notification, then reads the profile that the options gave (checked).
  void ReadProfile(OpCounts* counts);
  EngineStats stats() const {
    const ReaderStats reader = reader_->stats();
    return {scheduler_->stats(), reader, pass_cpu_ns_ + reader.cpu_ns};
  }

 private:
  Engine(const Model& model, ModelPlan plan);
  absl::Status Start(const EngineOptions& options);
  absl::Status OpenDevices(const EngineOptions& options);
  absl::Status MakeReaders(const EngineOptions& options);
  absl::Status LoadSmallTensors();
  void MakeHostProducts();
  void MakeRunner(const EngineOptions& options);
  void MakeMachine(const EngineOptions& options);
  bool IsCancelled() const {
    return cancel_ != nullptr && cancel_->load(std::memory_order_relaxed);
  }
  bool IsWide(size_t tokens) const;
  bool BringsNoWeights();
  absl::Status CheckForward(absl::Span<const TokenId> tokens) const;
  absl::Status RunChunk(Session& session, absl::Span<const TokenId> chunk, uint32_t logit_rows,
                        const std::optional<PassSpec>& next);
  absl::Status CheckFiles();  // since the last call, if anything was read
  void LeaveStuckReadsBehind();
  RowPlace FindRow(TokenId token) const;

  const Model& model_;
  ModelPlan plan_;
  RealClock clock_;  // of injected delays
  std::string reader_note_;
  std::unique_ptr<Device> cpu_;
  HostMemory host_;
  std::unique_ptr<AcceleratorSite> site_;  // null without an accelerator
  std::unique_ptr<Stream> cpu_stream_;
  std::unique_ptr<Reader> reader_;
  std::optional<SmallTensors> host_small_;
  std::optional<SmallTensors> device_small_;
  std::unique_ptr<KvPages> kv_pages_;
  std::unique_ptr<PassInputs> inputs_;
  std::unique_ptr<HostProducts> host_products_;
  std::unique_ptr<PassRunner> runner_;
  std::unique_ptr<RealMachine> machine_;
  std::unique_ptr<Trace> trace_;
  std::unique_ptr<Scheduler> scheduler_;
  EngineProgress progress_;
  bool has_cpu_steps_ = false;  // beside an accelerator, in passes that are not wide
  bool all_loaded_ = false;     // all weights stay on the accelerator, and are there
  ReaderOptions reader_options_;
  uint64_t pass_cpu_ns_ = 0;  // of the calling thread, in RunPass
  uint32_t logit_rows_ = 0;   // of the last Forward
  uint32_t top_logits_ = 0;
  uint64_t checked_bytes_ = 0;  // what the reader had read when CheckFiles last looked
  const std::atomic<bool>* cancel_ = nullptr;
  OpProfile* profile_ = nullptr;
};

}  // namespace weir

#endif  // WEIR_ENGINE_ENGINE_H_
