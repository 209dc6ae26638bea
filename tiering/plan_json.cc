// A plan as JSON: written for people and tools, read back with every field checked.

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/base.h"
#include "nlohmann/json.hpp"
#include "tiering/json_depth.h"
#include "tiering/plan.h"

namespace weir {
namespace {

using Json = nlohmann::json;

// No machine has more; keeps sums and products far from overflow.
constexpr uint64_t kMaxPlanBytes = uint64_t{1} << 48;
constexpr uint64_t kMaxSlotBytes = uint64_t{1} << 40;
constexpr uint64_t kMaxSlotsInFile = 1 << 20;
constexpr size_t kMaxFileBytes = size_t{16} << 20;  // 100,000 blocks
constexpr int kMaxDepth = 4;                        // of objects and arrays in a plan
constexpr absl::string_view kMakeNew = ". Make a new one with `weir plan MODEL --json FILE`";

// Reads unsigned fields of one object; remembers the first error so that callers check once.
class Fields {
 public:
  Fields(const Json& object, std::string where, absl::Status* status)
      : object_(object), where_(std::move(where)), status_(status) {}

  uint64_t Uint(const char* name, uint64_t limit, uint64_t least = 0) {
    if (!status_->ok()) return 0;
    const auto it = object_.find(name);
    if (it == object_.end() || !it->is_number_unsigned()) {
      return Fail(name, "a non-negative integer");
    }
    const uint64_t value = it->get<uint64_t>();
    if (value > limit) return Fail(name, absl::StrCat("at most ", limit, ", got ", value));
    if (value < least) return Fail(name, absl::StrCat("at least ", least, ", got ", value));
    return value;
  }

 private:
  uint64_t Fail(const char* name, const std::string& expected) {
    *status_ = absl::InvalidArgumentError(
        absl::StrCat(where_, "field '", name, "': expected ", expected, kMakeNew));
    return 0;
  }

  const Json& object_;
  std::string where_;
  absl::Status* status_;
};

const Json& ObjectAt(const Json& parent, const char* name, const std::string& source,
                     absl::Status* status) {
  const auto it = parent.find(name);
  if (it != parent.end() && it->is_object()) return *it;
  if (status->ok()) {
    *status = absl::InvalidArgumentError(
        absl::StrCat(source, ": expected an object '", name, "'", kMakeNew));
  }
  return parent;  // not read: the error is set
}

std::string_view TierName(Tier tier) {
  switch (tier) {
    case Tier::kDisk:
      return "disk";
    case Tier::kHost:
      return "host";
    case Tier::kDevice:
      break;
  }
  return "device";
}

// The text of a field that has one of two values; empty when it is not there or no text.
std::string TextAt(const Json& entry, const char* name) {
  const auto it = entry.find(name);
  return it != entry.end() && it->is_string() ? it->get<std::string>() : "";
}

absl::Status ParsePlacement(const Json& entry, const std::string& where, const Plan& plan,
                            Placement* placement) {
  const auto refuse = [&where](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(where, what, kMakeNew));
  };
  if (!entry.is_object()) return refuse("expected an object");
  const bool accelerated = plan.accelerator.has_value();
  const std::string home = TextAt(entry, "home");
  uint64_t arena_bytes = 0;
  if (home == "host") {
    placement->home = Tier::kHost;
    arena_bytes = plan.resident_arena_bytes;
  } else if (home == "device") {
    if (!accelerated) return refuse("home 'device' needs an object 'accelerator' in the plan");
    placement->home = Tier::kDevice;
    arena_bytes = plan.accelerator->arena_bytes;
  } else if (home != "disk") {
    return refuse(accelerated ? "field 'home': expected \"disk\", \"host\" or \"device\""
                              : "field 'home': expected \"disk\" or \"host\"");
  }
  if (accelerated) {
    const std::string device = TextAt(entry, "compute");
    if (device == "accelerator") {
      placement->compute_device = ComputeDevice::kAccelerator;
    } else if (device != "cpu") {
      return refuse("field 'compute': expected \"cpu\" or \"accelerator\"");
    }
  }
  if (placement->home == Tier::kDisk) return absl::OkStatus();
  absl::Status status;
  Fields fields(entry, where, &status);
  placement->arena_offset_bytes = fields.Uint("arena_offset_bytes", arena_bytes);
  return status;
}

// A field of the plan's shape that older plans lack: null there.
const Json* NewerField(const Json& document, const char* name) {
  const auto shape = document.find("shape");
  if (shape == document.end() || !shape->is_object()) return nullptr;
  const auto field = shape->find(name);
  return field == shape->end() ? nullptr : &*field;
}

// True where an older plan does not say.
bool ReadsAheadAt(const Json& document, const std::string& source, absl::Status* status) {
  const Json* const field = NewerField(document, "reads_ahead");
  if (field == nullptr) return true;
  if (!field->is_boolean() && status->ok()) {
    *status = absl::InvalidArgumentError(
        absl::StrCat(source, ": shape: field 'reads_ahead': expected true or false", kMakeNew));
  }
  return field->is_boolean() ? field->get<bool>() : true;
}

// Float16 where an older plan does not say.
KvFormat KvFormatAt(const Json& document, const char* name, const std::string& source,
                    absl::Status* status) {
  const Json* const field = NewerField(document, name);
  if (field == nullptr) return KvFormat::kF16;
  const auto format = KvFormatFromName(field->is_string() ? field->get<std::string>() : "");
  if (!format.has_value() && status->ok()) {
    *status = absl::InvalidArgumentError(absl::StrCat(source, ": shape: field '", name,
                                                      "': expected \"f16\" or \"q8_0\"", kMakeNew));
  }
  return format.value_or(KvFormat::kF16);
}

absl::Status ParsePlacements(const Json& document, const std::string& source, Plan* plan) {
  const auto blocks = document.find("blocks");
  if (blocks == document.end() || !blocks->is_array()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": expected an array 'blocks'", kMakeNew));
  }
  plan->placements.reserve(blocks->size());
  for (size_t i = 0; i < blocks->size(); ++i) {
    const std::string where = absl::StrCat(source, ": block ", i, ": ");
    Placement placement;
    WEIR_RETURN_IF_ERROR(ParsePlacement((*blocks)[i], where, *plan, &placement));
    plan->placements.push_back(placement);
  }
  return absl::OkStatus();
}

absl::Status CheckOwnBudget(uint64_t bytes, uint64_t budget_bytes, const char* what,
                            const std::string& source) {
  if (bytes <= budget_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(source, ": what the plan takes", what, " (", bytes,
                                                 " bytes) is more than its own budget (",
                                                 budget_bytes, " bytes)", kMakeNew));
}

// The accelerator's part, if the plan has one.
absl::Status ParseAccelerator(const Json& document, const std::string& source, Plan* plan) {
  if (!document.contains("accelerator")) return absl::OkStatus();
  absl::Status status;
  const Json& part = ObjectAt(document, "accelerator", source, &status);
  WEIR_RETURN_IF_ERROR(status);
  const std::string where = source + ": accelerator: ";
  AcceleratorPlan& accelerator = plan->accelerator.emplace();
  Fields top(part, where, &status);
  accelerator.hbm_budget_bytes = top.Uint("hbm_budget_bytes", kMaxPlanBytes);
  accelerator.arena_bytes = top.Uint("arena_bytes", kMaxPlanBytes);
  accelerator.in_place_tokens = static_cast<uint32_t>(top.Uint("in_place_tokens", INT32_MAX));
  Fields overhead(ObjectAt(part, "overhead_bytes", source, &status),
                  where + "overhead_bytes: ", &status);
  accelerator.overhead.small_tensors = overhead.Uint("small_tensors", kMaxPlanBytes);
  accelerator.overhead.kv = overhead.Uint("kv", kMaxPlanBytes);
  accelerator.overhead.activations = overhead.Uint("activations", kMaxPlanBytes);
  accelerator.overhead.inputs = overhead.Uint("inputs", kMaxPlanBytes);
  accelerator.overhead.scratch = overhead.Uint("scratch", kMaxPlanBytes);
  Fields ring(ObjectAt(part, "ring", source, &status), where + "ring: ", &status);
  accelerator.slots = static_cast<uint32_t>(ring.Uint("slots", kMaxSlotsInFile));
  accelerator.slot_bytes = ring.Uint("slot_bytes", kMaxSlotBytes);
  WEIR_RETURN_IF_ERROR(status);
  return CheckOwnBudget(accelerator.hbm_bytes(), accelerator.hbm_budget_bytes,
                        " of the accelerator's memory", source);
}

Json BlocksToJson(const Program& program, const Plan& plan) {
  Json blocks = Json::array();
  for (size_t i = 0; i < program.blocks.size(); ++i) {
    const Placement& placement = plan.placements[i];
    Json entry = {{"label", program.blocks[i].label},
                  {"bytes", program.blocks[i].payload_bytes},
                  {"home", TierName(placement.home)}};
    if (placement.home != Tier::kDisk) entry["arena_offset_bytes"] = placement.arena_offset_bytes;
    if (plan.accelerator.has_value()) {
      const bool on_cpu = placement.compute_device == ComputeDevice::kCpu;
      entry["compute"] = on_cpu ? "cpu" : "accelerator";
    }
    blocks.push_back(std::move(entry));
  }
  return blocks;
}

Json AcceleratorToJson(const AcceleratorPlan& accelerator, const PlanSummary& summary) {
  const DeviceOverheadBytes& overhead = accelerator.overhead;
  return {{"hbm_budget_bytes", accelerator.hbm_budget_bytes},
          {"hbm_bytes", accelerator.hbm_bytes()},
          {"overhead_bytes",
           {{"small_tensors", overhead.small_tensors},
            {"kv", overhead.kv},
            {"activations", overhead.activations},
            {"inputs", overhead.inputs},
            {"scratch", overhead.scratch}}},
          {"ring", {{"slots", accelerator.slots}, {"slot_bytes", accelerator.slot_bytes}}},
          {"arena_bytes", accelerator.arena_bytes},
          {"in_place_tokens", accelerator.in_place_tokens},
          {"device_payload_bytes", summary.device_payload_bytes},
          {"copied_payload_bytes", summary.copied_payload_bytes},
          {"in_place_payload_bytes", summary.in_place_payload_bytes}};
}

Json PredictionToJson(const Plan& plan) {
  const Prediction& prediction = plan.prediction;
  Json json = {{"disk_s", prediction.disk_s},
               {"compute_s", prediction.compute_s},
               {"decode_tokens_per_s", prediction.decode_tokens_per_s},
               {"bottleneck", prediction.bottleneck}};
  if (plan.accelerator.has_value()) {
    json["link_s"] = prediction.link_s;
    json["host_compute_s"] = prediction.host_compute_s;
  }
  return json;
}

}  // namespace

std::string PlanToJson(const Program& program, const Plan& plan) {
  WEIR_CHECK(program.blocks.size() == plan.placements.size());
  const PlanSummary summary = Summarise(program, plan);
  Json document = {{"weir_plan", 1},
                   {"fingerprint", absl::StrFormat("%016x", plan.fingerprint)},
                   {"dram_budget_bytes", plan.dram_budget_bytes},
                   {"dram_bytes", plan.dram_bytes()},
                   {"shape",
                    {{"block_bytes", plan.shape.block_bytes},
                     {"context_tokens", plan.shape.context_tokens},
                     {"chunk_tokens", plan.shape.chunk_tokens},
                     {"logit_rows", plan.shape.logit_rows},
                     {"reads_ahead", plan.shape.reads_ahead},
                     {"cache_type_k", KvFormatName(plan.shape.kv.keys)},
                     {"cache_type_v", KvFormatName(plan.shape.kv.values)}}},
                   {"overhead_bytes",
                    {{"small_tensors", plan.overhead.small_tensors},
                     {"kv", plan.overhead.kv},
                     {"activations", plan.overhead.activations},
                     {"rows", plan.overhead.rows}}},
                   {"ring", {{"slots", plan.slots}, {"slot_bytes", plan.slot_bytes}}},
                   {"resident_arena_bytes", plan.resident_arena_bytes},
                   {"resident_payload_bytes", summary.resident_payload_bytes},
                   {"streamed_payload_bytes", summary.streamed_payload_bytes},
                   {"prediction", PredictionToJson(plan)},
                   {"blocks", BlocksToJson(program, plan)}};
  if (plan.accelerator.has_value()) {
    document["accelerator"] = AcceleratorToJson(*plan.accelerator, summary);
  }
  // Labels hold tensor names, which a file may have put together from any bytes.
  return document.dump(1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

absl::StatusOr<Plan> ParsePlanJson(const std::string& text, const std::string& source) {
  if (text.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": ", text.size(),
                                                   " bytes are too many for a plan (at most ",
                                                   kMaxFileBytes, " are read)", kMakeNew));
  }
  const Json document = IsJsonWithinDepth(text, kMaxDepth)
                            ? Json::parse(text, nullptr, /*allow_exceptions=*/false)
                            : Json(Json::value_t::discarded);
  if (document.is_discarded() || !document.is_object() || !document.contains("weir_plan")) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, ": not a plan (expected the JSON that `weir plan MODEL --json FILE` writes)"));
  }
  absl::Status status;
  Fields top(document, source + ": ", &status);
  const uint64_t version = top.Uint("weir_plan", UINT32_MAX);
  if (status.ok() && version != 1) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": plan version ", version,
                                                   ", this program reads version 1", kMakeNew));
  }
  Plan plan;
  plan.dram_budget_bytes = top.Uint("dram_budget_bytes", kMaxPlanBytes);
  plan.resident_arena_bytes = top.Uint("resident_arena_bytes", kMaxPlanBytes);
  Fields shape(ObjectAt(document, "shape", source, &status), source + ": shape: ", &status);
  plan.shape.block_bytes = shape.Uint("block_bytes", kMaxPlanBytes, 1);
  plan.shape.context_tokens = static_cast<uint32_t>(shape.Uint("context_tokens", INT32_MAX, 1));
  plan.shape.chunk_tokens = static_cast<uint32_t>(shape.Uint("chunk_tokens", INT32_MAX, 1));
  plan.shape.logit_rows = static_cast<uint32_t>(shape.Uint("logit_rows", INT32_MAX, 1));
  plan.shape.reads_ahead = ReadsAheadAt(document, source, &status);
  plan.shape.kv.keys = KvFormatAt(document, "cache_type_k", source, &status);
  plan.shape.kv.values = KvFormatAt(document, "cache_type_v", source, &status);
  Fields overhead(ObjectAt(document, "overhead_bytes", source, &status),
                  source + ": overhead_bytes: ", &status);
  plan.overhead.small_tensors = overhead.Uint("small_tensors", kMaxPlanBytes);
  plan.overhead.kv = overhead.Uint("kv", kMaxPlanBytes);
  plan.overhead.activations = overhead.Uint("activations", kMaxPlanBytes);
  plan.overhead.rows = overhead.Uint("rows", kMaxPlanBytes);
  Fields ring(ObjectAt(document, "ring", source, &status), source + ": ring: ", &status);
  plan.slots = static_cast<uint32_t>(ring.Uint("slots", kMaxSlotsInFile));
  plan.slot_bytes = ring.Uint("slot_bytes", kMaxSlotBytes);
  WEIR_RETURN_IF_ERROR(status);
  const auto fingerprint = document.find("fingerprint");
  const std::string hex = fingerprint != document.end() && fingerprint->is_string()
                              ? fingerprint->get<std::string>()
                              : "";
  if (hex.size() != 16 || hex.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": field 'fingerprint': expected 16 hexadecimal digits", kMakeNew));
  }
  for (char digit : hex) {
    plan.fingerprint = plan.fingerprint << 4 |
                       static_cast<uint64_t>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
  }
  WEIR_RETURN_IF_ERROR(ParseAccelerator(document, source, &plan));
  WEIR_RETURN_IF_ERROR(ParsePlacements(document, source, &plan));
  WEIR_RETURN_IF_ERROR(CheckOwnBudget(plan.dram_bytes(), plan.dram_budget_bytes, "", source));
  return plan;
}

}  // namespace weir
