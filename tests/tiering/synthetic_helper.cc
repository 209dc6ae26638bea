#include "tests/tiering/synthetic_helper.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr uint64_t kPage = 4096;
constexpr size_t kTraceCapacity = 100'000;

Block MakeRows() {
  Block rows;
  rows.kind = BlockKind::kRows;
  rows.label = "rows";
  rows.payload_bytes = kPage / 2;
  rows.memory_bytes = kPage;
  rows.segments.push_back({.offset_bytes = 0, .bytes = kPage, .required_bytes = kPage / 2});
  return rows;
}

// Appends a segment whose payload begins `skew` bytes into its first page.
void AddSegment(uint64_t payload_bytes, uint64_t skew_bytes, uint64_t* file_bytes, Block* block) {
  Segment segment;
  segment.offset_bytes = *file_bytes;
  segment.required_bytes = skew_bytes + payload_bytes;
  segment.bytes = AlignUp(segment.required_bytes, kPage);
  segment.memory_offset_bytes = block->memory_bytes;
  block->memory_bytes += segment.bytes;
  block->payload_bytes += payload_bytes;
  block->segments.push_back(segment);
  *file_bytes += segment.bytes;
}

void AddStep(std::string label, std::vector<BlockId> needs, Program* program) {
  Step step{.label = std::move(label), .needs = std::move(needs), .payload_bytes = 0};
  for (BlockId block : step.needs) step.payload_bytes += program->blocks[block].payload_bytes;
  program->steps.push_back(std::move(step));
}

BlockId AddRandomBlock(Dice* dice, uint64_t* file_bytes, Program* program) {
  Block block;
  block.label = absl::StrCat("b", program->blocks.size());
  const uint64_t segments = dice->OneIn(4) ? dice->Between(2, 3) : 1;
  const uint64_t most_bytes = dice->OneIn(8) ? 64 * kPage : 8 * kPage;
  for (uint64_t i = 0; i < segments; ++i) {
    const uint64_t bytes = dice->Between(1, most_bytes);
    AddSegment(bytes, dice->Below(kPage), file_bytes, &block);
  }
  program->blocks.push_back(std::move(block));
  return static_cast<BlockId>(program->blocks.size() - 1);
}

}  // namespace

Program UniformProgram(const UniformShape& shape) {
  Program program;
  program.fingerprint = 0x5eed;
  program.blocks.push_back(MakeRows());
  AddStep("embed", {0}, &program);
  uint64_t file_bytes = kPage;
  const uint32_t body = shape.layers * shape.blocks_per_layer;
  for (uint32_t i = 0; i < body + shape.head_blocks; ++i) {
    if (i == body) program.head_step = static_cast<StepId>(program.steps.size());
    Block block;
    block.label =
        i < body ? absl::StrCat("blk.", i / shape.blocks_per_layer, ".", i % shape.blocks_per_layer)
                 : absl::StrCat("head.", i - body);
    AddSegment(shape.block_bytes, 32, &file_bytes, &block);
    program.blocks.push_back(block);
    AddStep(block.label, {static_cast<BlockId>(program.blocks.size() - 1)}, &program);
  }
  if (shape.head_blocks == 0) program.head_step = static_cast<StepId>(program.steps.size());
  return program;
}

Program RandomProgram(uint64_t seed) {
  Dice dice(seed);
  Program program;
  program.fingerprint = seed;
  uint64_t file_bytes = kPage;
  const uint64_t rows = dice.OneIn(5) ? 0 : dice.Between(1, 2);
  std::vector<BlockId> first;
  for (uint64_t i = 0; i < rows; ++i) {
    first.push_back(static_cast<BlockId>(program.blocks.size()));
    program.blocks.push_back(MakeRows());
  }
  if (dice.OneIn(3)) first.push_back(AddRandomBlock(&dice, &file_bytes, &program));
  AddStep("first", first, &program);
  const uint64_t most_needs = dice.Between(1, 3);
  const uint64_t steps = dice.Between(1, 40);
  for (uint64_t i = 0; i < steps; ++i) {
    std::vector<BlockId> needs;
    const uint64_t count = dice.OneIn(6) ? 0 : dice.Between(1, most_needs);
    for (uint64_t j = 0; j < count; ++j) {
      needs.push_back(AddRandomBlock(&dice, &file_bytes, &program));
    }
    AddStep(absl::StrCat("s", i), needs, &program);
  }
  const uint64_t head = std::min<uint64_t>(dice.Below(4), program.steps.size() - 1);
  program.head_step = static_cast<StepId>(program.steps.size() - head);
  const uint64_t groups = dice.Below(4);  // 0: none; else joined in `groups` of 4 places
  for (StepId step = 1; step < program.steps.size(); ++step) {
    program.steps[step].joins_previous = step != program.head_step && dice.Below(4) < groups;
  }
  return program;
}

PlanOptions SmallOverhead() {
  PlanOptions options;
  options.shape = {
      .block_bytes = 1 << 20, .context_tokens = 512, .chunk_tokens = 64, .logit_rows = 1};
  options.overhead = {
      .small_tensors = 5000, .kv = 70'000, .activations = 30'000, .rows = 2 * kPage};
  options.preferred_ring_bytes = 8 << 20;
  return options;
}

Plan RandomPlan(const Program& program, Dice* dice) {
  PlanOptions options = SmallOverhead();
  options.preferred_ring_bytes = dice->Between(1, 64) * 65536;
  if (dice->OneIn(16))
    return *MakePlanForResidentShare(program, dice->Below(2) == 0 ? 0 : 1, options);
  if (dice->OneIn(4)) return *MakePlanForResidentShare(program, dice->Share(), options);
  const uint64_t floor_bytes = FloorBytes(program, options);
  uint64_t all_bytes = 1 << 16;
  for (const Block& block : program.blocks) all_bytes += block.memory_bytes;
  return *MakePlan(program, floor_bytes + dice->Below(all_bytes), options);
}

SimHardware RandomHardware(Dice* dice) {
  SimHardware hardware;
  hardware.disk_bytes_per_s = 1e8 * static_cast<double>(dice->Between(1, 100));
  hardware.compute_bytes_per_s = 1e8 * static_cast<double>(dice->Between(1, 100));
  hardware.disk_latency_ns = static_cast<int64_t>(dice->Below(200'000));
  if (dice->OneIn(4)) hardware.rows_latency_ns = 0;
  hardware.each_step_ns = static_cast<int64_t>(dice->Below(20'000));
  hardware.max_transfers = static_cast<uint32_t>(dice->Between(3, 20));
  hardware.max_steps = static_cast<uint32_t>(dice->Between(1, 6));
  return hardware;
}

SimFaults RandomFaults(Dice* dice) {
  SimFaults faults = RandomDelays(dice);
  const auto sometimes = [dice](double share) { return dice->OneIn(4) ? share : 0.0; };
  faults.short_share = sometimes(0.3);
  faults.again_share = sometimes(0.3);
  faults.eio_share = sometimes(0.1);
  faults.reorder_share = sometimes(0.4);
  faults.slow_share = sometimes(0.1);
  faults.jitter_share = sometimes(1.0);
  if (dice->OneIn(6)) faults.eio_forever_share = 0.01;
  if (dice->OneIn(6)) faults.eio_at = dice->Below(80);
  if (dice->OneIn(8)) faults.stuck_share = 0.01;
  if (dice->OneIn(8)) faults.stuck_at = dice->Below(80);
  if (dice->OneIn(6)) faults.throttle_at_ns = static_cast<int64_t>(dice->Below(20'000'000));
  if (dice->OneIn(2)) faults.throttle_for_ns = static_cast<int64_t>(dice->Below(20'000'000));
  if (dice->OneIn(8)) faults.slow_from = dice->Below(80);
  if (dice->OneIn(12)) faults.unplug_at = dice->Below(80);
  if (dice->OneIn(3)) faults.cancel_at_event = dice->Below(150);
  return faults;
}

SimFaults RandomDelays(Dice* dice) {
  SimFaults faults;
  faults.seed = dice->Below(UINT64_MAX);
  faults.spike_share = dice->OneIn(2) ? 0 : 0.2;
  faults.spike_ns = 3'000'000;
  faults.late_share = dice->OneIn(2) ? 0 : 0.5;
  faults.late_ns = 400'000;
  return faults;
}

uint64_t ReadBytesOf(const Block& block) {
  uint64_t total = 0;
  for (const Segment& segment : block.segments) total += segment.bytes;
  return total;
}

uint64_t StepsOf(const Program& program, const PassSpec& pass) {
  return pass.head ? program.steps.size() : program.head_step;
}

uint64_t StreamedUses(const Program& program, const Plan& plan, const PassSpec& pass) {
  uint64_t uses = 0;
  for (uint64_t step = 0; step < StepsOf(program, pass); ++step) {
    for (BlockId block : program.steps[step].needs) {
      const bool weights = program.blocks[block].kind == BlockKind::kWeights;
      uses += weights && plan.placements[block].home == Tier::kDisk ? 1 : 0;
    }
  }
  return uses;
}

Rig::Rig(const Program& program_in, const Plan& plan_in, const SimHardware& hardware,
         const SimFaults& faults)
    : program(program_in),
      plan(plan_in),
      machine(program, plan, hardware, faults),
      trace(kTraceCapacity),
      scheduler(program, plan, machine, &trace, nullptr) {}

absl::Status Rig::RunPasses(uint32_t passes, const PassSpec& pass) {
  for (uint32_t i = 0; i < passes; ++i) {
    const bool last = i + 1 == passes;
    absl::Status status =
        scheduler.RunPass(pass, last ? std::nullopt : std::optional<PassSpec>(pass));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

int64_t BusyNs(const Trace& trace, Trace::Lane lane, int64_t begin_ns, int64_t end_ns) {
  std::vector<std::pair<int64_t, int64_t>> spans;
  for (const Trace::Record& record : trace.records()) {
    if (record.lane == lane) spans.push_back({record.begin_ns, record.end_ns});
  }
  std::sort(spans.begin(), spans.end());
  int64_t busy_ns = 0;
  int64_t covered_ns = begin_ns;
  for (const auto& span : spans) {
    const int64_t from_ns = std::max(span.first, covered_ns);
    const int64_t to_ns = std::min(span.second, end_ns);
    if (to_ns <= from_ns) continue;
    busy_ns += to_ns - from_ns;
    covered_ns = to_ns;
  }
  return busy_ns;
}

}  // namespace weir
