#include "engine/training_step.h"

#include <algorithm>
#include <memory>

#include "io/base.h"
#include "kernels/adam_update.h"
#include "kernels/ops.h"

namespace weir {
namespace {

constexpr int64_t kLookNs = 50'000'000;  // between two calls of progress at least, when idle

enum class Stage : uint8_t {
  kFree,
  kReading,          // weights, and backward the state beside them
  kMultiplying,      // state may still come
  kWritingGradient,  // likewise
  kReadingGradient,  // or waiting for the state
  kUpdating,
  kWritingState,
};

enum class Transfer : uint8_t { kWeights, kState, kGradient };
constexpr uint64_t kTransfers = 3;

struct Slot {
  absl::Span<uint8_t> memory;
  const TrainingUnit* unit = nullptr;
  SlotPlaces places = {};
  Stage stage = Stage::kFree;
  bool has_state = false;
  bool has_gradient = false;
  ReadOp reads[kTransfers];
  WriteOp write;
  std::atomic<bool> is_computed{false};  // set on a thread of the device's
  Reader* reader = nullptr;
};

class PhaseRun {
 public:
  PhaseRun(const TrainingBench& bench, absl::Span<const TrainingUnit> units, TrainingPhase phase)
      : bench_(bench),
        units_(units),
        is_forward_(phase == TrainingPhase::kForward),
        slots_(bench.slots.size()),
        read_(kTransfers * bench.slots.size()),
        written_(bench.slots.size()) {
    for (size_t i = 0; i < slots_.size(); ++i) {
      slots_[i].memory = bench.slots[i];
      slots_[i].reader = bench.reader;
    }
  }

  absl::Status Run(const TrainingProgress& progress) {
    absl::Status status = RunToEnd(progress);
    Drain();
    return status;
  }

 private:
  absl::Status RunToEnd(const TrainingProgress& progress) {
    while (finished_ < units_.size()) {
      for (Slot& slot : slots_) {
        if (slot.stage == Stage::kFree && begun_ < units_.size()) Begin(&slot);
      }
      const size_t count = bench_.reader->Wait(absl::MakeSpan(read_), kLookNs);
      for (size_t i = 0; i < count; ++i) WEIR_RETURN_IF_ERROR(OnRead(*read_[i]));
      WEIR_RETURN_IF_ERROR(TakeWritten());
      for (Slot& slot : slots_) {
        if (slot.is_computed.exchange(false)) OnComputed(&slot);
      }
      const double share = static_cast<double>(finished_) / static_cast<double>(units_.size());
      if (progress && !progress(share)) {
        return absl::CancelledError("the training step was interrupted");
      }
    }
    return bench_.stream->status();
  }

  void Begin(Slot* slot) {
    const size_t last = units_.size() - 1;
    slot->unit = &units_[is_forward_ ? begun_ : last - begun_];
    ++begun_;
    slot->places = PlacesOf(*slot->unit, slot->memory);
    slot->stage = Stage::kReading;
    slot->has_state = slot->has_gradient = false;
    Submit(slot, Transfer::kWeights, ReadOfWeights(bench_, *slot->unit, slot->places.weights));
    if (is_forward_) return;
    Submit(slot, Transfer::kState,
           ReadOfScratch(slot->unit->state_offset_bytes, slot->unit->state_bytes(),
                         slot->places.state));
  }

  ReadOp ReadOfScratch(uint64_t offset_bytes, uint64_t bytes, uint8_t* to) const {
    ReadOp op;
    op.file = bench_.scratch;
    op.offset_bytes = offset_bytes;
    op.buffer = to;
    op.bytes = op.required_bytes = bytes;
    return op;
  }

  void Submit(Slot* slot, Transfer transfer, const ReadOp& read) {
    ReadOp* const op = &slot->reads[static_cast<uint64_t>(transfer)];
    *op = read;
    op->tag =
        static_cast<uint64_t>(slot - slots_.data()) * kTransfers + static_cast<uint64_t>(transfer);
    bench_.reader->Submit(op);
  }

  void Submit(Slot* slot, uint64_t offset_bytes, const uint8_t* data, uint64_t bytes) {
    slot->write.offset_bytes = offset_bytes;
    slot->write.data = data;
    slot->write.bytes = bytes;
    slot->write.tag = static_cast<uint64_t>(slot - slots_.data());
    bench_.writer->Submit(&slot->write);
  }

  absl::Status OnRead(const ReadOp& op) {
    WEIR_RETURN_IF_ERROR(op.status);
    Slot* const slot = &slots_[op.tag / kTransfers];
    switch (static_cast<Transfer>(op.tag % kTransfers)) {
      case Transfer::kWeights:
        slot->stage = Stage::kMultiplying;
        for (uint32_t i = 0; i < (is_forward_ ? 1 : bench_.backward_products); ++i) {
          EnqueueProduct(bench_, *slot->unit, slot->places.weights);
        }
        NotifyWhenComputed(slot);
        break;
      case Transfer::kState:
        slot->has_state = true;
        UpdateWhenReady(slot);
        break;
      case Transfer::kGradient:
        slot->has_gradient = true;
        UpdateWhenReady(slot);
        break;
    }
    return absl::OkStatus();
  }

  void NotifyWhenComputed(Slot* slot) {
    bench_.stream->NotifyWhenComplete(
        [](void* argument) {
          auto* const done = static_cast<Slot*>(argument);
          Reader* const reader = done->reader;
          done->is_computed.store(true);
          reader->Wake();
        },
        slot);
  }

  void UpdateWhenReady(Slot* slot) {
    if (!slot->has_state || !slot->has_gradient) return;
    slot->stage = Stage::kUpdating;
    EnqueueUpdate(bench_, *slot->unit, slot->places);
    NotifyWhenComputed(slot);
  }

  void OnComputed(Slot* slot) {
    const TrainingUnit& unit = *slot->unit;
    if (slot->stage == Stage::kUpdating) {
      slot->stage = Stage::kWritingState;
      Submit(slot, unit.state_offset_bytes, slot->places.state, unit.written_bytes());
    } else if (is_forward_) {
      Finish(slot);
    } else {
      slot->stage = Stage::kWritingGradient;
      Submit(slot, unit.gradient_offset_bytes, slot->places.gradient, unit.float_bytes);
    }
  }

  absl::Status TakeWritten() {
    const size_t count = bench_.writer->Wait(absl::MakeSpan(written_), 0);
    for (size_t i = 0; i < count; ++i) {
      WEIR_RETURN_IF_ERROR(written_[i]->status);
      Slot* const slot = &slots_[written_[i]->tag];
      if (slot->stage == Stage::kWritingState) {
        Finish(slot);
        continue;
      }
      slot->stage = Stage::kReadingGradient;
      Submit(slot, Transfer::kGradient,
             ReadOfScratch(slot->unit->gradient_offset_bytes, slot->unit->float_bytes,
                           slot->places.gradient));
    }
    return absl::OkStatus();
  }

  void Finish(Slot* slot) {
    slot->stage = Stage::kFree;
    ++finished_;
  }

  // After an error others are still under way, into the slots.
  void Drain() {
    bench_.stream->Wait(bench_.stream->Record());
    while (bench_.writer->in_flight() > 0) bench_.writer->Wait(absl::MakeSpan(written_), kLookNs);
    while (bench_.reader->in_flight() > 0) bench_.reader->Wait(absl::MakeSpan(read_), kLookNs);
  }

  const TrainingBench& bench_;
  const absl::Span<const TrainingUnit> units_;
  const bool is_forward_;
  std::vector<Slot> slots_;
  std::vector<ReadOp*> read_;
  std::vector<WriteOp*> written_;
  size_t begun_ = 0;
  size_t finished_ = 0;
};

}  // namespace

uint64_t SlotBytes(const TrainingUnits& units) {
  uint64_t bytes = 0;
  for (const TrainingUnit& unit : units.units) {
    bytes = std::max(bytes, unit.float_bytes + unit.written_bytes());
  }
  return bytes;
}

uint64_t InputFloats(const TrainingUnits& units, uint32_t tokens) {
  uint64_t columns = 0;
  for (const TrainingUnit& unit : units.units) columns = std::max(columns, unit.tensor->columns());
  return columns * tokens;
}

uint64_t OutputFloats(const TrainingUnits& units, uint32_t tokens) {
  uint64_t rows = 0;
  for (const TrainingUnit& unit : units.units) rows = std::max<uint64_t>(rows, unit.rows);
  return rows * tokens;
}

SlotPlaces PlacesOf(const TrainingUnit& unit, absl::Span<uint8_t> slot) {
  WEIR_CHECK(slot.size() >= unit.float_bytes + unit.written_bytes());
  SlotPlaces places = {};
  places.gradient = slot.data();
  places.state = places.gradient + unit.float_bytes;
  places.weights = places.state + unit.state_bytes();
  return places;
}

void EnqueueProduct(const TrainingBench& bench, const TrainingUnit& unit, const uint8_t* weights) {
  const auto columns = static_cast<uint32_t>(unit.tensor->columns());
  WEIR_CHECK(bench.input.size() >= uint64_t{columns} * bench.tokens &&
             bench.output.size() >= uint64_t{unit.rows} * bench.tokens);
  MatMul(*bench.stream, {.input = bench.input.data(),
                         .input_stride = columns,
                         .weight = weights + unit.weights.head_bytes,
                         .dtype = unit.tensor->dtype,
                         .output = bench.output.data(),
                         .output_stride = unit.rows,
                         .tokens = bench.tokens,
                         .rows = unit.rows,
                         .columns = columns});
}

void EnqueueUpdate(const TrainingBench& bench, const TrainingUnit& unit, const SlotPlaces& places) {
  const auto floats = [&](uint8_t* at) { return reinterpret_cast<float*>(at); };
  // Of an early step with the authors' constants.
  AdamUpdate(*bench.stream, {.gradient = floats(places.gradient),
                             .first_moment = floats(places.state),
                             .second_moment = floats(places.state + unit.float_bytes),
                             .weights = floats(places.state + 2 * unit.float_bytes),
                             .count = unit.parameters,
                             .learning_rate = 1e-3f,
                             .beta1 = 0.9f,
                             .beta2 = 0.999f,
                             .epsilon = 1e-8f,
                             .first_correction = 1.1f,
                             .second_correction = 10.0f});
}

ReadOp ReadOfWeights(const TrainingBench& bench, const TrainingUnit& unit, uint8_t* to) {
  ReadOp op;
  op.file = bench.model->files[unit.tensor->file].get();
  op.offset_bytes = unit.weights.offset_bytes;
  op.buffer = to;
  op.bytes = unit.weights.bytes;
  op.required_bytes = unit.weights_required_bytes;
  return op;
}

absl::Status RunTrainingPhase(const TrainingBench& bench, absl::Span<const TrainingUnit> units,
                              TrainingPhase phase, const TrainingProgress& progress) {
  if (units.empty()) return absl::OkStatus();
  WEIR_CHECK(!bench.slots.empty());
  return std::make_unique<PhaseRun>(bench, units, phase)->Run(progress);
}

}  // namespace weir
