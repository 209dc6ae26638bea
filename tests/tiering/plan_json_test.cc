// Plans as files: what is written is read back, and nothing else is accepted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tests/tiering/accelerator_helper.h"
#include "tests/tiering/synthetic_helper.h"
#include "tiering/plan.h"

namespace weir {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

class PlanJsonTest : public testing::Test {
 protected:
  Json Document() const {
    return Json::parse(PlanToJson(program_, plan_), nullptr, /*allow_exceptions=*/false);
  }
  // As somebody who loads a plan does.
  absl::Status Load(const std::string& text) const {
    const absl::StatusOr<Plan> plan = ParsePlanJson(text, "p.json");
    if (!plan.ok()) return plan.status();
    return CheckPlanFits(program_, *plan, "p.json");
  }
  // Loads the document after one change.
  absl::Status LoadChanged(const std::function<void(Json*)>& change) const {
    Json document = Document();
    change(&document);
    return Load(document.dump());
  }

  // Each of these, missing or of another kind, is refused.
  void ExpectEveryFieldMatters(const std::vector<std::string>& pointers) const {
    const Json bad_values[] = {nullptr,        -1,        1.5, 1e300, "12", true, Json::array(),
                               Json::object(), UINT64_MAX};
    for (const std::string& pointer : pointers) {
      const Json::json_pointer at(pointer);
      ASSERT_TRUE(Document().contains(at)) << pointer;
      const std::string field = at.back();
      EXPECT_FALSE(LoadChanged([&](Json* d) {
                     Json& parent = (*d)[at.parent_pointer()];
                     if (parent.is_array()) {
                       parent.erase(static_cast<size_t>(std::stoi(field)));
                     } else {
                       parent.erase(field);
                     }
                   }).ok())
          << pointer;
      for (const Json& value : bad_values) {
        const absl::Status status = LoadChanged([&](Json* d) { (*d)[at] = value; });
        EXPECT_FALSE(status.ok()) << pointer << " = " << value.dump();
        EXPECT_THAT(std::string(status.message()), HasSubstr("p.json"));
      }
    }
  }

  const Program program_ = UniformProgram({.layers = 4, .blocks_per_layer = 2});
  Plan plan_ = *MakePlanForResidentShare(program_, 0.5, SmallOverhead());
};

void ExpectEqualParts(const AcceleratorPlan& a, const AcceleratorPlan& b) {
  EXPECT_EQ(a.hbm_budget_bytes, b.hbm_budget_bytes);
  EXPECT_EQ(a.overhead.small_tensors, b.overhead.small_tensors);
  EXPECT_EQ(a.overhead.kv, b.overhead.kv);
  EXPECT_EQ(a.overhead.activations, b.overhead.activations);
  EXPECT_EQ(a.overhead.inputs, b.overhead.inputs);
  EXPECT_EQ(a.overhead.scratch, b.overhead.scratch);
  EXPECT_EQ(a.slots, b.slots);
  EXPECT_EQ(a.slot_bytes, b.slot_bytes);
  EXPECT_EQ(a.arena_bytes, b.arena_bytes);
  EXPECT_EQ(a.in_place_tokens, b.in_place_tokens);
}

void ExpectEqualPlans(const Plan& a, const Plan& b) {
  EXPECT_EQ(a.fingerprint, b.fingerprint);
  EXPECT_EQ(a.shape.block_bytes, b.shape.block_bytes);
  EXPECT_EQ(a.shape.context_tokens, b.shape.context_tokens);
  EXPECT_EQ(a.shape.chunk_tokens, b.shape.chunk_tokens);
  EXPECT_EQ(a.shape.logit_rows, b.shape.logit_rows);
  EXPECT_EQ(a.shape.kv, b.shape.kv);
  EXPECT_EQ(a.shape.reads_ahead, b.shape.reads_ahead);
  EXPECT_EQ(a.dram_budget_bytes, b.dram_budget_bytes);
  EXPECT_EQ(a.overhead.small_tensors, b.overhead.small_tensors);
  EXPECT_EQ(a.overhead.kv, b.overhead.kv);
  EXPECT_EQ(a.overhead.activations, b.overhead.activations);
  EXPECT_EQ(a.overhead.rows, b.overhead.rows);
  EXPECT_EQ(a.slots, b.slots);
  EXPECT_EQ(a.slot_bytes, b.slot_bytes);
  EXPECT_EQ(a.resident_arena_bytes, b.resident_arena_bytes);
  ASSERT_EQ(a.accelerator.has_value(), b.accelerator.has_value());
  if (a.accelerator.has_value()) ExpectEqualParts(*a.accelerator, *b.accelerator);
  ASSERT_EQ(a.placements.size(), b.placements.size());
  for (size_t i = 0; i < a.placements.size(); ++i) {
    EXPECT_EQ(a.placements[i].home, b.placements[i].home);
    EXPECT_EQ(a.placements[i].compute_device, b.placements[i].compute_device);
    EXPECT_EQ(a.placements[i].arena_offset_bytes, b.placements[i].arena_offset_bytes);
  }
}

TEST_F(PlanJsonTest, RoundTrips) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Program program = RandomProgram(seed);
    program.fingerprint = seed * 0x9e3779b97f4a7c15;  // all 64 bits
    const PlanOptions options = SmallOverhead();
    const uint64_t budget = FloorBytes(program, options) + seed * 4096;
    Plan plan = *MakePlan(program, budget, options);
    if (seed % 2 == 1) plan.shape.kv.keys = KvFormat::kQ8_0;
    if (seed % 3 == 1) plan.shape.kv.values = KvFormat::kQ8_0;
    plan.shape.reads_ahead = seed % 5 != 1;
    const absl::StatusOr<Plan> again = ParsePlanJson(PlanToJson(program, plan), "p.json");
    ASSERT_TRUE(again.ok()) << again.status();
    ExpectEqualPlans(plan, *again);
    EXPECT_EQ(CheckPlanFits(program, *again, "p.json"), absl::OkStatus());
  }
}

TEST_F(PlanJsonTest, DerivedFieldsSayWhatThePlanMeans) {
  const Json document = Document();
  EXPECT_EQ(document["dram_bytes"], plan_.dram_bytes());
  const PlanSummary summary = Summarise(program_, plan_);
  EXPECT_EQ(document["resident_payload_bytes"], summary.resident_payload_bytes);
  EXPECT_EQ(document["streamed_payload_bytes"], summary.streamed_payload_bytes);
  EXPECT_EQ(document["blocks"][1]["label"], "blk.0.0");
  EXPECT_EQ(document["blocks"][1]["bytes"], 1 << 20);
  // They are not read back.
  EXPECT_EQ(LoadChanged([](Json* d) { d->erase("prediction"); }), absl::OkStatus());
}

TEST_F(PlanJsonTest, KeysAndValuesAreFloat16UnlessItSaysOtherwise) {
  EXPECT_EQ(LoadChanged([](Json* d) { (*d)["shape"].erase("cache_type_k"); }), absl::OkStatus());
  for (const Json& wrong : {Json("q4_0"), Json(8), Json(nullptr)}) {
    const absl::Status status =
        LoadChanged([&](Json* d) { (*d)["shape"]["cache_type_v"] = wrong; });
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << wrong;
    EXPECT_THAT(std::string(status.message()), HasSubstr("cache_type_v"));
  }
}

TEST_F(PlanJsonTest, ReadsAheadUnlessItSaysOtherwise) {
  EXPECT_EQ(LoadChanged([](Json* d) { (*d)["shape"].erase("reads_ahead"); }), absl::OkStatus());
  const absl::Status status = LoadChanged([](Json* d) { (*d)["shape"]["reads_ahead"] = "no"; });
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("reads_ahead"));
}

TEST_F(PlanJsonTest, LabelsOfAnyBytesAreWritten) {
  Program program = program_;
  program.blocks[1].label = "\xff\xfe \xc3 \x01 \"";
  EXPECT_TRUE(ParsePlanJson(PlanToJson(program, plan_), "p.json").ok());
}

TEST_F(PlanJsonTest, WhatIsNotAPlanIsRefusedByName) {
  const std::string good = Document().dump();
  ASSERT_EQ(Load(good), absl::OkStatus());
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("7"),
        std::string("{}"), std::string("GGUF\x03\0\0\0", 8), std::string("{\"weir_plan\"}"),
        std::string(100'000, '['), std::string("{\"weir_plan\": 1, \"x\": \"\xff\"}"),
        good.substr(0, good.size() / 2), good + "x"}) {
    const absl::Status status = Load(text);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text.substr(0, 50);
    EXPECT_THAT(std::string(status.message()), HasSubstr("p.json"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("not a plan"));
  }
}

TEST_F(PlanJsonTest, EveryFieldThatIsReadMustBeThereAndSound) {
  ExpectEveryFieldMatters({"/weir_plan",
                           "/fingerprint",
                           "/dram_budget_bytes",
                           "/resident_arena_bytes",
                           "/shape",
                           "/shape/block_bytes",
                           "/shape/context_tokens",
                           "/shape/chunk_tokens",
                           "/shape/logit_rows",
                           "/overhead_bytes",
                           "/overhead_bytes/small_tensors",
                           "/overhead_bytes/kv",
                           "/overhead_bytes/activations",
                           "/overhead_bytes/rows",
                           "/ring",
                           "/ring/slots",
                           "/ring/slot_bytes",
                           "/blocks",
                           "/blocks/1",
                           "/blocks/1/home",
                           "/blocks/2/arena_offset_bytes"});
}

TEST_F(PlanJsonTest, RefusesWhatDoesNotFitTogether) {
  struct Case {
    const char* pointer;
    Json value;
    const char* message;
  };
  const uint64_t arena = plan_.resident_arena_bytes;
  const Case cases[] = {
      {"/weir_plan", 2, "plan version 2"},
      {"/fingerprint", "0000000000005eee", "another model"},
      {"/fingerprint", "5eed", "16 hexadecimal digits"},
      {"/fingerprint", "00000000000g5eed", "16 hexadecimal digits"},
      {"/dram_budget_bytes", plan_.dram_bytes() - 1, "more than its own budget"},
      {"/resident_arena_bytes", 0, "arena_offset_bytes"},
      {"/resident_arena_bytes", arena - 4096, "do not fit together"},
      {"/overhead_bytes/kv", uint64_t{1} << 47, "more than its own budget"},
      {"/overhead_bytes/kv", (uint64_t{1} << 48) + 1, "at most"},
      {"/ring/slots", 0, "do not fit together"},
      {"/ring/slots", 1, "do not fit together"},
      {"/ring/slots", 1 << 20, "more than its own budget"},
      {"/ring/slots", (1 << 20) + 1, "at most"},
      {"/ring/slots", uint64_t{1} << 32, "at most"},
      {"/ring/slot_bytes", plan_.slot_bytes - 4096, "do not fit together"},
      {"/ring/slot_bytes", uint64_t{1} << 40, "more than its own budget"},
      {"/shape/context_tokens", 0, "at least 1"},
      {"/shape/block_bytes", 0, "at least 1"},
      {"/blocks/0/home", "host", "arena_offset_bytes"},
      {"/blocks/1/home", "device", "accelerator"},
      {"/blocks/1/home", "moon", "\"disk\" or \"host\""},
      {"/blocks/2/home", "disk", "resident arena"},
      {"/blocks/2/arena_offset_bytes", 4096, "resident arena"},
      {"/blocks/4/arena_offset_bytes", 1, "resident arena"},
  };
  for (const Case& c : cases) {
    const absl::Status status =
        LoadChanged([&](Json* d) { (*d)[Json::json_pointer(c.pointer)] = c.value; });
    EXPECT_FALSE(status.ok()) << c.pointer << " = " << c.value.dump();
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message)) << c.pointer;
  }
}

TEST_F(PlanJsonTest, RefusesSlotsThatDirectReadsCannotUse) {
  const absl::Status status = LoadChanged([&](Json* d) {
    (*d)["ring"]["slot_bytes"] = plan_.slot_bytes + 512;
    (*d)["dram_budget_bytes"] = plan_.dram_bytes() + (1 << 20);
  });
  EXPECT_THAT(std::string(status.message()), HasSubstr("do not fit together"));
}

TEST_F(PlanJsonTest, GatheredRowsHaveNoHome) {
  const absl::Status status = LoadChanged([](Json* d) {
    (*d)["blocks"][0]["home"] = "host";
    (*d)["blocks"][0]["arena_offset_bytes"] = 0;
  });
  EXPECT_THAT(std::string(status.message()), HasSubstr("gathered anew"));
}

// Of a plan with an accelerator: every home and compute device is in it.
class PlanJsonAcceleratorTest : public PlanJsonTest {
 protected:
  PlanJsonAcceleratorTest() {
    plan_ = PlanOfShares(program_, {.device = 0.3, .host = 0.5, .cpu = 0.5});
  }
  std::string PointerTo(Tier home) const {
    BlockId id = 0;
    while (plan_.placements[id].home != home || program_.blocks[id].kind == BlockKind::kRows) ++id;
    return absl::StrCat("/blocks/", id);
  }
};

TEST_F(PlanJsonAcceleratorTest, RoundTrips) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Dice dice(seed);
    const Program program = RandomProgram(seed);
    const Plan plan = RandomAcceleratorPlan(program, &dice);
    const absl::StatusOr<Plan> again = ParsePlanJson(PlanToJson(program, plan), "p.json");
    ASSERT_TRUE(again.ok()) << again.status();
    ExpectEqualPlans(plan, *again);
    EXPECT_EQ(CheckPlanFits(program, *again, "p.json"), absl::OkStatus());
  }
}

TEST_F(PlanJsonAcceleratorTest, DerivedFieldsSayWhatThePlanMeans) {
  const Json accelerator = Document()["accelerator"];
  const PlanSummary summary = Summarise(program_, plan_);
  EXPECT_EQ(accelerator["hbm_bytes"], plan_.accelerator->hbm_bytes());
  EXPECT_EQ(accelerator["device_payload_bytes"], summary.device_payload_bytes);
  EXPECT_EQ(accelerator["copied_payload_bytes"], summary.copied_payload_bytes);
  EXPECT_EQ(accelerator["in_place_payload_bytes"], summary.in_place_payload_bytes);
  EXPECT_GT(summary.in_place_payload_bytes, 0u);
  EXPECT_EQ(LoadChanged([](Json* d) { (*d)["accelerator"].erase("hbm_bytes"); }), absl::OkStatus());
}

TEST_F(PlanJsonAcceleratorTest, EveryFieldThatIsReadMustBeThereAndSound) {
  ExpectEveryFieldMatters(
      {"/accelerator/hbm_budget_bytes", "/accelerator/arena_bytes", "/accelerator/in_place_tokens",
       "/accelerator/overhead_bytes", "/accelerator/overhead_bytes/small_tensors",
       "/accelerator/overhead_bytes/kv", "/accelerator/overhead_bytes/activations",
       "/accelerator/overhead_bytes/inputs", "/accelerator/overhead_bytes/scratch",
       "/accelerator/ring", "/accelerator/ring/slots", "/accelerator/ring/slot_bytes",
       "/blocks/0/compute", "/blocks/1/compute", PointerTo(Tier::kDevice) + "/arena_offset_bytes",
       PointerTo(Tier::kDevice) + "/home"});
  for (const Json& value : {Json(nullptr), Json(1), Json("x"), Json::array(), Json::object()}) {
    const absl::Status status = LoadChanged([&](Json* d) { (*d)["accelerator"] = value; });
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << value.dump();
  }
}

TEST_F(PlanJsonAcceleratorTest, RefusesWhatDoesNotFitTogether) {
  struct Case {
    std::string pointer;
    Json value;
    const char* message;
  };
  const AcceleratorPlan& accelerator = *plan_.accelerator;
  const Case cases[] = {
      {"/accelerator/hbm_budget_bytes", accelerator.hbm_bytes() - 1, "more than its own budget"},
      {"/accelerator/overhead_bytes/kv", uint64_t{1} << 47, "more than its own budget"},
      {"/accelerator/ring/slots", 1, "do not fit together"},
      {"/accelerator/ring/slots", 1 << 20, "more than its own budget"},
      {"/accelerator/ring/slots", (1 << 20) + 1, "at most"},
      {"/accelerator/ring/slot_bytes", accelerator.slot_bytes - 4096, "do not fit together"},
      {"/accelerator/arena_bytes", accelerator.arena_bytes - 4096, "do not fit together"},
      {"/accelerator/in_place_tokens", -1, "non-negative"},
      {PointerTo(Tier::kDevice) + "/compute", "cpu", "cannot reach"},
      {PointerTo(Tier::kDevice) + "/home", "disk", "device arena"},
      {PointerTo(Tier::kDevice) + "/home", "host", "arena"},
      {"/blocks/1/compute", "gpu", "\"cpu\" or \"accelerator\""},
      {"/blocks/1/home", "moon", "\"disk\", \"host\" or \"device\""},
      {"/blocks/0/compute", "accelerator", "gathered anew"},
  };
  for (const Case& c : cases) {
    const absl::Status status =
        LoadChanged([&](Json* d) { (*d)[Json::json_pointer(c.pointer)] = c.value; });
    EXPECT_FALSE(status.ok()) << c.pointer << " = " << c.value.dump();
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message)) << c.pointer;
  }
  // Without the object, what needs it is refused.
  const absl::Status status = LoadChanged([](Json* d) { d->erase("accelerator"); });
  EXPECT_THAT(std::string(status.message()), HasSubstr("needs an object 'accelerator'"));
}

TEST_F(PlanJsonTest, RefusesPlansOfOtherPrograms) {
  Program other = program_;
  other.blocks.pop_back();
  EXPECT_EQ(CheckPlanFits(other, plan_, "p.json").code(), absl::StatusCode::kFailedPrecondition);
  other = program_;
  other.fingerprint ^= 1;
  EXPECT_EQ(CheckPlanFits(other, plan_, "p.json").code(), absl::StatusCode::kFailedPrecondition);
  Plan device = plan_;
  device.placements[1].home = Tier::kDevice;
  EXPECT_EQ(CheckPlanFits(program_, device, "plan").code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace weir
