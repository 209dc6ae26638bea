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

absl::Status ParsePlacements(const Json& document, const std::string& source, Plan* plan) {
  const auto blocks = document.find("blocks");
  if (blocks == document.end() || !blocks->is_array()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": expected an array 'blocks'", kMakeNew));
  }
  plan->placements.reserve(blocks->size());
  for (size_t i = 0; i < blocks->size(); ++i) {
    const Json& entry = (*blocks)[i];
    const std::string where = absl::StrCat(source, ": block ", i, ": ");
    if (!entry.is_object())
      return absl::InvalidArgumentError(absl::StrCat(where, "expected an object", kMakeNew));
    Placement placement;
    const auto home = entry.find("home");
    const bool is_text = home != entry.end() && home->is_string();
    const std::string tier = is_text ? home->get<std::string>() : "";
    if (tier == "device") {
      return absl::UnimplementedError(
          where + "home 'device' needs an accelerator, and this build has none");
    }
    if (tier != "disk" && tier != "host") {
      return absl::InvalidArgumentError(
          absl::StrCat(where, "field 'home': expected \"disk\" or \"host\"", kMakeNew));
    }
    if (tier == "host") {
      absl::Status status;
      Fields fields(entry, where, &status);
      placement.home = Tier::kHost;
      placement.arena_offset_bytes = fields.Uint("arena_offset_bytes", plan->resident_arena_bytes);
      WEIR_RETURN_IF_ERROR(status);
    }
    plan->placements.push_back(placement);
  }
  return absl::OkStatus();
}

}  // namespace

std::string PlanToJson(const Program& program, const Plan& plan) {
  WEIR_CHECK(program.blocks.size() == plan.placements.size());
  const PlanSummary summary = Summarise(program, plan);
  Json blocks = Json::array();
  for (size_t i = 0; i < program.blocks.size(); ++i) {
    const Placement& placement = plan.placements[i];
    Json entry = {{"label", program.blocks[i].label},
                  {"bytes", program.blocks[i].payload_bytes},
                  {"home", TierName(placement.home)}};
    if (placement.home == Tier::kHost) entry["arena_offset_bytes"] = placement.arena_offset_bytes;
    blocks.push_back(std::move(entry));
  }
  const Json document = {{"weir_plan", 1},
                         {"fingerprint", absl::StrFormat("%016x", plan.fingerprint)},
                         {"dram_budget_bytes", plan.dram_budget_bytes},
                         {"dram_bytes", plan.dram_bytes()},
                         {"shape",
                          {{"block_bytes", plan.shape.block_bytes},
                           {"context_tokens", plan.shape.context_tokens},
                           {"chunk_tokens", plan.shape.chunk_tokens},
                           {"logit_rows", plan.shape.logit_rows}}},
                         {"overhead_bytes",
                          {{"small_tensors", plan.overhead.small_tensors},
                           {"kv", plan.overhead.kv},
                           {"activations", plan.overhead.activations},
                           {"rows", plan.overhead.rows}}},
                         {"ring", {{"slots", plan.slots}, {"slot_bytes", plan.slot_bytes}}},
                         {"resident_arena_bytes", plan.resident_arena_bytes},
                         {"resident_payload_bytes", summary.resident_payload_bytes},
                         {"streamed_payload_bytes", summary.streamed_payload_bytes},
                         {"prediction",
                          {{"disk_s", plan.prediction.disk_s},
                           {"compute_s", plan.prediction.compute_s},
                           {"decode_tokens_per_s", plan.prediction.decode_tokens_per_s},
                           {"bottleneck", plan.prediction.bottleneck}}},
                         {"blocks", std::move(blocks)}};
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
  WEIR_RETURN_IF_ERROR(ParsePlacements(document, source, &plan));
  if (plan.dram_bytes() > plan.dram_budget_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, ": what the plan takes (", plan.dram_bytes(),
        " bytes) is more than its own budget (", plan.dram_budget_bytes, " bytes)", kMakeNew));
  }
  return plan;
}

}  // namespace weir
