#include "engine/training_probe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/training_traffic.h"
#include "engine/training_units.h"
#include "io/clock.h"
#include "io/scratch_space.h"
#include "io/split_mix.h"
#include "kernels/cpu_topology.h"
#include "kernels/host_memory.h"

namespace weir {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kMostOpBytes = 4 * kMiB;
// Shares of the work for progress: filling, four ceilings, forward, the rest.
constexpr double kFilled = 0.3;
constexpr double kCeiling = 0.05;
constexpr double kStepBegin = kFilled + 4 * kCeiling;
constexpr double kForwardEnd = 0.6;

// Ordinary positive floats between 2^-7 and 2^-5, which no device can make smaller and no update
// turns into something slow.
void FillWithFloats(absl::Span<uint8_t> memory) {
  uint64_t state = 1;
  for (size_t at = 0; at + sizeof(uint64_t) <= memory.size(); at += sizeof(uint64_t)) {
    const uint64_t word = (SplitMix64(&state) & 0x00ff'ffff'00ff'ffff) | 0x3c00'0000'3c00'0000;
    std::memcpy(memory.data() + at, &word, sizeof(word));
  }
}

class Probe {
 public:
  Probe(const Model& model, const TrainingProbeOptions& options, const TrainingProgress& progress)
      : model_(model), options_(options), progress_(progress) {}

  absl::StatusOr<TrainingProbeResult> Run() {
    WEIR_RETURN_IF_ERROR(Prepare());
    WEIR_RETURN_IF_ERROR(Fill());
    WEIR_RETURN_IF_ERROR(MeasureCeilings());
    Shorten();
    Predict();
    WEIR_RETURN_IF_ERROR(RunStep());
    result_.scale = units_.scale();
    result_.parameters = units_.parameters();
    result_.units = static_cast<uint32_t>(units_.units.size());
    result_.tokens = options_.tokens;
    result_.recomputes = options_.recomputes;
    result_.scratch_bytes = units_.scratch_bytes();
    return std::move(result_);
  }

 private:
  absl::Status Prepare() {
    TrainingCut cut = {.unit_parameters = options_.unit_parameters,
                       .scratch_bytes = options_.scratch_bytes,
                       .alignment_bytes = kPageBytes};
    for (const auto& file : model_.files) {
      cut.alignment_bytes = std::max(cut.alignment_bytes, file->alignment_bytes());
      result_.is_direct = file->is_direct();
    }
    WEIR_ASSIGN_OR_RETURN(units_, CutTrainingUnits(model_, cut));
    WEIR_ASSIGN_OR_RETURN(scratch_, ScratchSpace::Create(options_.folder, units_.scratch_bytes()));
    if (scratch_->file().alignment_bytes() > cut.alignment_bytes) {
      return absl::UnimplementedError(absl::StrCat(
          options_.folder, ": direct reads there are of whole ", scratch_->file().alignment_bytes(),
          " bytes. Name a folder on another disk"));
    }
    NoteBufferedReads();
    WEIR_RETURN_IF_ERROR(TakeMemory());
    return OpenBench();
  }

  void NoteBufferedReads() {
    result_.is_direct = result_.is_direct && scratch_->is_direct() && scratch_->file().is_direct();
    if (result_.is_direct) return;
    result_.note =
        "A part of the traffic went by way of the page cache, which the disk's rates "
        "are measured through, too.";
  }

  absl::Status TakeMemory() {
    slot_bytes_ = AlignUp(SlotBytes(units_), units_.alignment_bytes);
    const uint64_t slots_bytes = options_.slots * slot_bytes_;
    const uint64_t input_floats = InputFloats(units_, options_.tokens);
    const uint64_t output_floats = OutputFloats(units_, options_.tokens);
    const uint64_t bytes = slots_bytes + (input_floats + output_floats) * sizeof(float);
    WEIR_ASSIGN_OR_RETURN(memory_, MapHostMemory(bytes, units_.alignment_bytes));
    FillWithFloats(absl::MakeSpan(memory_->data(), bytes));
    traffic_memory_ = absl::MakeSpan(memory_->data(), slots_bytes);
    for (uint32_t i = 0; i < options_.slots; ++i) {
      bench_.slots.push_back(traffic_memory_.subspan(i * slot_bytes_, slot_bytes_));
    }
    auto* const floats = reinterpret_cast<float*>(memory_->data() + slots_bytes);
    bench_.input = absl::MakeSpan(floats, input_floats);
    bench_.output = absl::MakeSpan(floats + input_floats, output_floats);
    // A power of two.
    op_bytes_ = std::min({kMostOpBytes, std::bit_floor(slots_bytes / 8),
                          std::bit_floor(units_.scratch_bytes() / 8)});
    op_bytes_ = std::max(op_bytes_, units_.alignment_bytes);
    return absl::OkStatus();
  }

  absl::Status OpenBench() {
    WEIR_ASSIGN_OR_RETURN(device_,
                          MakeCpuDevice({.threads = options_.threads, .isa = options_.isa}));
    stream_ = device_->NewStream();
    ReaderOptions reads;
    reads.capacity = std::max(64u, 3 * options_.slots);
    reads.chunk_bytes = options_.chunk_bytes;
    reads.depth = options_.depth;
    std::string note;
    WEIR_ASSIGN_OR_RETURN(reader_, MakeReader(options_.reader, reads, &note));
    if (!note.empty())
      result_.note = absl::StrCat(result_.note, result_.note.empty() ? "" : " ", note);
    FileWriterOptions writes;
    writes.chunk_bytes = options_.chunk_bytes;
    writes.threads = std::max(1u, options_.depth / 2);
    writes.wake = [](void* reader) { static_cast<Reader*>(reader)->Wake(); };
    writes.wake_argument = reader_.get();
    WEIR_ASSIGN_OR_RETURN(
        writer_, FileWriter::Create(scratch_->descriptor(),
                                    absl::StrCat("scratch file in ", options_.folder), writes));
    result_.reader = std::string(reader_->name());
    bench_.model = &model_;
    bench_.scratch = &scratch_->file();
    bench_.reader = reader_.get();
    bench_.writer = writer_.get();
    bench_.stream = static_cast<CpuStream*>(stream_.get());
    bench_.tokens = options_.tokens;
    bench_.backward_products = options_.recomputes ? 3 : 2;
    return absl::OkStatus();
  }

  bool Tell(double share) const { return !progress_ || progress_(share); }

  // Reading what was never written would not reach the disk.
  absl::Status Fill() {
    TrafficOptions fill;
    fill.writes = true;
    fill.op_bytes = op_bytes_;
    fill.region_bytes = AlignUp(units_.scratch_bytes(), op_bytes_);
    fill.limit_bytes = fill.region_bytes;
    fill.limit_ns = kFillNs;
    const auto whole = static_cast<double>(fill.region_bytes);
    WEIR_ASSIGN_OR_RETURN(const TrafficResult filled,
                          MeasureTraffic(bench_, traffic_memory_, fill, [&] {
                            const auto done = static_cast<double>(writer_->written_bytes());
                            return Tell(kFilled * std::min(1.0, done / whole));
                          }));
    while (units_.scratch_bytes() > filled.written_bytes) units_.units.pop_back();
    if (units_.units.empty()) {
      return absl::DeadlineExceededError(absl::StrCat(
          options_.folder, ": ", FormatBytes(filled.written_bytes), " were written in ",
          FormatDuration(kFillNs), ", too little for a training step"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<TrafficResult> Rate(const File* reads, bool writes, double share) {
    TrafficOptions options;
    options.reads = reads;
    options.writes = writes;
    options.op_bytes = op_bytes_;
    options.limit_ns = options_.ceiling_ns;
    options.region_bytes = AlignDown(units_.scratch_bytes(), op_bytes_);
    if (reads != nullptr && !writes) {
      // Of the model, where the units are.
      options.read_offset_bytes = units_.units.front().weights.offset_bytes;
      const uint64_t left_bytes = reads->size_bytes() - options.read_offset_bytes;
      options.region_bytes =
          AlignUp(std::min<uint64_t>(left_bytes, options.region_bytes), op_bytes_);
      if (options.region_bytes > op_bytes_) options.region_bytes -= op_bytes_;
    }
    return MeasureTraffic(bench_, traffic_memory_, options, [&] { return Tell(share); });
  }

  absl::Status MeasureCeilings() {
    TrainingCeilings& ceilings = result_.ceilings;
    const File* const weights = model_.files[units_.units.front().tensor->file].get();
    WEIR_ASSIGN_OR_RETURN(const TrafficResult writes, Rate(nullptr, true, kFilled));
    WEIR_ASSIGN_OR_RETURN(const TrafficResult reads, Rate(weights, false, kFilled + kCeiling));
    WEIR_ASSIGN_OR_RETURN(const TrafficResult mixed,
                          Rate(&scratch_->file(), true, kFilled + 2 * kCeiling));
    ceilings.write_bytes_per_s = writes.bytes_per_s();
    ceilings.read_bytes_per_s = reads.bytes_per_s();
    ceilings.mixed_bytes_per_s = mixed.bytes_per_s();
    const uint32_t cores = CountCores(UsableThreads());
    if (cores > 0 && options_.threads >= cores) {  // otherwise a core is left for it
      ceilings.core_s_per_disk_byte =
          mixed.cpu_s / static_cast<double>(mixed.read_bytes + mixed.written_bytes) / cores;
    }
    WEIR_ASSIGN_OR_RETURN(const ArithmeticRates rates,
                          MeasureArithmetic(bench_, units_.units, options_.ceiling_ns));
    ceilings.operations_per_s = rates.operations_per_s;
    ceilings.update_parameters_per_s = rates.update_parameters_per_s;
    if (!Tell(kStepBegin)) return absl::CancelledError("the training step was interrupted");
    return absl::OkStatus();
  }

  void Predict() {
    const auto phase = [&](TrainingPhase which) {
      return PredictPhase(WorkOfUnits(units_, which, options_.tokens, options_.recomputes),
                          static_cast<double>(units_.units.size()), result_.ceilings);
    };
    result_.forward.predicted = phase(TrainingPhase::kForward);
    result_.backward.predicted = phase(TrainingPhase::kBackward);
  }

  void Shorten() {
    Predict();
    const double share = options_.limit_s / result_.predicted_s();
    if (share >= 1) return;
    const auto count = static_cast<double>(units_.units.size());
    units_.units.resize(std::max<size_t>(1, static_cast<size_t>(count * share)));
  }

  absl::Status RunStep() {
    const RealClock clock;
    const uint64_t read_before = reader_->stats().bytes_read;
    const uint64_t written_before = writer_->written_bytes();
    const int64_t begin_ns = clock.NowNs();
    WEIR_RETURN_IF_ERROR(RunTrainingPhase(
        bench_, units_.units, TrainingPhase::kForward,
        [&](double share) { return Tell(kStepBegin + share * (kForwardEnd - kStepBegin)); }));
    const int64_t half_ns = clock.NowNs();
    WEIR_RETURN_IF_ERROR(RunTrainingPhase(
        bench_, units_.units, TrainingPhase::kBackward,
        [&](double share) { return Tell(kForwardEnd + share * (1 - kForwardEnd)); }));
    WEIR_RETURN_IF_ERROR(writer_->Sync());
    const int64_t end_ns = clock.NowNs();
    result_.forward.achieved_s = static_cast<double>(half_ns - begin_ns) * 1e-9;
    result_.backward.achieved_s = static_cast<double>(end_ns - half_ns) * 1e-9;
    result_.read_bytes = reader_->stats().bytes_read - read_before;
    result_.written_bytes = writer_->written_bytes() - written_before;
    return absl::OkStatus();
  }

  const Model& model_;
  const TrainingProbeOptions& options_;
  const TrainingProgress& progress_;
  TrainingUnits units_;
  TrainingProbeResult result_;
  uint64_t slot_bytes_ = 0;
  uint64_t op_bytes_ = 0;
  // In the order in which they may go, from the last: what works on memory before the memory.
  std::unique_ptr<Buffer> memory_;
  absl::Span<uint8_t> traffic_memory_;
  std::unique_ptr<ScratchSpace> scratch_;
  std::unique_ptr<Reader> reader_;
  std::unique_ptr<FileWriter> writer_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  TrainingBench bench_;
};

absl::Status CheckOptions(const TrainingProbeOptions& options) {
  if (options.tokens == 0 || options.unit_parameters == 0 || options.slots < 2 ||
      options.threads == 0 || options.depth == 0 || options.ceiling_ns <= 0 ||
      options.limit_s <= 0) {
    return absl::InvalidArgumentError(
        "training probe: 1 token, parameter, thread and read in flight at least, 2 slots, and "
        "some time");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TrainingProbeResult> ProbeTraining(const Model& model,
                                                  const TrainingProbeOptions& options,
                                                  const TrainingProgress& progress) {
  WEIR_RETURN_IF_ERROR(CheckOptions(options));
  return std::make_unique<Probe>(model, options, progress)->Run();
}

}  // namespace weir
