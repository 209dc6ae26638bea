#include "tools/wall_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tools/wall_arms.h"
#include "tools/wall_passes.h"
#include "tools/wall_steps.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

const Json kIdentity = {{"model", "m.gguf"}, {"rounds", 5}};

class WallJournalTest : public ::testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void AppendToFile(const std::string& text) const { std::ofstream(path_, std::ios::app) << text; }
  WallJournal Begin() const { return WallJournal::Open(path_, kIdentity, false).value(); }
  absl::StatusOr<WallJournal> Resume(const Json& identity = kIdentity) const {
    return WallJournal::Open(path_, identity, true);
  }

  const std::string folder_ = ::testing::TempDir() + "wall_journal_test";
  const std::string path_ = folder_ + "/wall/j.jsonl";
};

TEST_F(WallJournalTest, WhatWasAddedIsThereAgain) {
  WallJournal journal = Begin();
  EXPECT_EQ(journal.Find("a"), nullptr);
  ASSERT_TRUE(journal.Add("a", {{"x", 1.5}}).ok());
  ASSERT_TRUE(journal.Add("b", Json()).ok());
  const WallJournal again = Resume().value();
  ASSERT_NE(again.Find("a"), nullptr);
  EXPECT_EQ((*again.Find("a"))["x"], 1.5);
  ASSERT_NE(again.Find("b"), nullptr);
  EXPECT_TRUE(again.Find("b")->is_null());
  EXPECT_EQ(again.Find("c"), nullptr);
  again.Remove();
  EXPECT_EQ(Resume().status().code(), absl::StatusCode::kNotFound);
}

TEST_F(WallJournalTest, BeginningForgetsWhatWas) {
  ASSERT_TRUE(Begin().Add("a", 1).ok());
  Begin();
  EXPECT_EQ(Resume().value().Find("a"), nullptr);
}

TEST_F(WallJournalTest, ALineThatWasCutOffIsNone) {
  ASSERT_TRUE(Begin().Add("a", 1).ok());
  AppendToFile(R"({"key": "b", "va)");
  const WallJournal journal = Resume().value();
  EXPECT_NE(journal.Find("a"), nullptr);
  EXPECT_EQ(journal.Find("b"), nullptr);
}

TEST_F(WallJournalTest, AnotherMeasurementIsRefusedWithWhatDiffers) {
  Begin();
  const absl::Status status = Resume({{"model", "m.gguf"}, {"rounds", 3}}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rounds was 5 and is 3"));
}

TEST_F(WallJournalTest, WhatIsNoJournalIsRefused) {
  EXPECT_FALSE(WallJournal::Open("", kIdentity, true).ok());
  EXPECT_TRUE(WallJournal::Open("", kIdentity, false).value().Add("a", 1).ok()) << "kept nowhere";
  Begin();
  AppendToFile("[1]\n{\"key\": \"a\", \"value\": 1}\n");
  EXPECT_THAT(std::string(Resume().status().message()), HasSubstr("line 2"));
  for (const char* text : {"", "nonsense\n", "{\"weir_wall\": 2}\n", "{\"weir_wall\": 1}\n"}) {
    std::ofstream(path_, std::ios::trunc) << text;
    EXPECT_EQ(Resume().status().code(), absl::StatusCode::kFailedPrecondition) << text;
  }
}

TEST_F(WallJournalTest, StepsThatAreKnownAreNotMeasuredAgain) {
  int measured = 0;
  const auto step = [&](const char* key, absl::Status status) {
    return WallStep{key, "group", 1, [&measured, status]() -> absl::StatusOr<Json> {
                      if (!status.ok()) return status;
                      return Json(++measured);
                    }};
  };
  WallJournal journal = Begin();
  EXPECT_FALSE(
      RunSteps({step("a", absl::OkStatus()), step("b", absl::InternalError("no"))}, &journal).ok());
  WallJournal again = Resume().value();
  const auto values =
      RunSteps({step("a", absl::OkStatus()), step("b", absl::OkStatus())}, &again).value();
  EXPECT_EQ(values.at("a"), 1);
  EXPECT_EQ(values.at("b"), 2);
  EXPECT_EQ(measured, 2);
}

TEST(WallSteps, TimeLeftIsWhatTheSameKindTook) {
  const WallStep steps[] = {{"a", "x", 7, nullptr}, {"b", "y", 3, nullptr}, {"c", "x", 7, nullptr}};
  EXPECT_EQ(SecondsLeft(steps, 0, {}), 17);
  EXPECT_EQ(SecondsLeft(steps, 1, {{"x", 2}}), 5);
  EXPECT_EQ(SecondsLeft(steps, 3, {}), 0);
}

TEST(WallSample, ComesBackFromJson) {
  WallSample sample;
  sample.tokens = {3, 1, 4};
  sample.device = "cpu";
  sample.tokens_per_s = 2.5;
  sample.copy_stall_share = 0.125;
  const WallSample again = WallSampleFrom(ToJson(sample)).value();
  EXPECT_EQ(again.tokens, sample.tokens);
  EXPECT_EQ(again.device, "cpu");
  EXPECT_EQ(again.tokens_per_s, 2.5);
  EXPECT_EQ(again.copy_stall_share, 0.125);
  for (const char* field : {"tokens", "device", "tokens_per_s", "compute_s"}) {
    Json json = ToJson(sample);
    json.erase(field);
    EXPECT_EQ(WallSampleFrom(json).status().code(), absl::StatusCode::kDataLoss) << field;
  }
  EXPECT_FALSE(WallSampleFrom(Json(1)).ok());
}

TEST(WallPass, ComesBackFromJson) {
  const WallPass pass = WallPassFrom(ToJson(WallPass{16, 0.5, 0.75, 0.625})).value();
  EXPECT_EQ(pass.tokens, 16u);
  EXPECT_EQ(pass.resident_s, 0.5);
  EXPECT_EQ(pass.disk_s, 0.75);
  EXPECT_EQ(pass.predicted_disk_s, 0.625);
  EXPECT_FALSE(WallPassFrom(ToJson(WallPass{0, 1, 1, 1})).ok());
  EXPECT_FALSE(WallPassFrom({{"tokens", "16"}}).ok());
  EXPECT_FALSE(WallPassFrom(Json()).ok());
}

}  // namespace
}  // namespace weir
