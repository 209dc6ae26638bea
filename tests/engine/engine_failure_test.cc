// How passes end that cannot go on: errors name what went wrong, and the engine survives.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/sampler.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

const std::vector<TokenId> kPrompt = {5, 17, 99, 260, 31, 8, 12, 44, 300, 7};

TEST(EngineFailures, PermanentEioNamesFileAndOffset) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  for (const double share : {0.0, 0.5, 1.0}) {
    for (const uint64_t seed : {1u, 2u, 3u, 4u}) {
      EngineSetup setup;
      setup.resident_share = share;
      setup.engine.faults = FaultOptions{.seed = seed, .eio_forever_share = 0.05};
      SCOPED_TRACE(setup.Text() + ", seed " + std::to_string(seed));
      const auto engine = OpenEngineWith(*model, setup);
      absl::Status status = engine.status();
      if (engine.ok()) status = Greedy(**engine, kPrompt, 100).status();
      // Few reads in all when everything is resident: those seeds may get by without one.
      if (share == 1.0 && status.ok()) continue;
      ASSERT_FALSE(status.ok());
      const std::string message(status.message());
      EXPECT_THAT(message, HasSubstr("tiny.gguf"));
      EXPECT_THAT(message, HasSubstr("offset"));
    }
  }
}

// An error says nothing about later passes: where reads succeed again, so do they.
TEST(EngineFailures, AFailedPassLeavesTheEngineUsable) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup good;
  const auto reference = OpenEngineWith(*model, good);
  ASSERT_TRUE(reference.ok());
  const auto expected = Greedy(**reference, kPrompt, 4);
  ASSERT_TRUE(expected.ok());
  uint32_t failed = 0;
  uint32_t succeeded = 0;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    EngineSetup setup;
    setup.engine.faults = FaultOptions{.seed = seed, .eio_forever_share = 0.01};
    const auto engine = OpenEngineWith(*model, setup);
    if (!engine.ok()) continue;
    for (int attempt = 0; attempt < 12; ++attempt) {
      const auto made = Greedy(**engine, kPrompt, 4);
      if (!made.ok()) {
        ++failed;
        continue;
      }
      ++succeeded;
      EXPECT_EQ(*made, *expected);
    }
  }
  EXPECT_GT(failed, 0u);
  EXPECT_GT(succeeded, 0u);
}

TEST(EngineFailures, CancelEndsThePassAndALaterOneWorks) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  for (const double share : {0.0, 1.0}) {
    std::atomic<bool> cancel = false;
    bool is_armed = true;
    EngineSetup setup;
    setup.resident_share = share;
    // Passes of one token: the first one's steps may all be over by the time that they are told of,
    // but the second one must not begin.
    setup.chunk_tokens = 1;
    setup.engine.cancel = &cancel;
    setup.engine.on_progress = [&](const EngineProgress&) { cancel = cancel || is_armed; };
    const auto engine = OpenEngineWith(*model, setup);
    ASSERT_TRUE(engine.ok()) << engine.status();
    std::unique_ptr<Session> session = (*engine)->NewSession();
    EXPECT_TRUE(absl::IsCancelled((*engine)->Forward(*session, kPrompt, 1, true)));
    EXPECT_LE(session->position(), 1u);
    // The flag still stands: so does the wish.
    EXPECT_TRUE(absl::IsCancelled((*engine)->Forward(*session, kPrompt, 1, true)));
    EXPECT_TRUE(absl::IsCancelled((*engine)->Forward(*session, kPrompt, 1, true)));
    EXPECT_LE(session->position(), 1u);
    session.reset();
    const std::unique_ptr<Session> later = (*engine)->NewSession();
    is_armed = false;
    cancel = false;
    ASSERT_TRUE((*engine)->Forward(*later, kPrompt, 1, false).ok());
    EXPECT_EQ(later->position(), kPrompt.size());
    const TokenId next = ArgMax((*engine)->logits(0));
    const auto again = Greedy(**engine, kPrompt, 1);
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(again->front(), next);
  }
}

TEST(EngineFailures, FullContextIsOutOfRangeAndChangesNothing) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup setup;
  setup.context_tokens = 64;
  const auto engine = OpenEngineWith(*model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const std::unique_ptr<Session> session = (*engine)->NewSession();
  const absl::Status too_long = (*engine)->Forward(*session, std::vector<TokenId>(65, 4), 1, false);
  EXPECT_TRUE(absl::IsOutOfRange(too_long)) << too_long;
  EXPECT_THAT(std::string(too_long.message()), HasSubstr("-c"));
  EXPECT_EQ(session->position(), 0u);
  ASSERT_TRUE((*engine)->Forward(*session, std::vector<TokenId>(64, 4), 1, false).ok());
  EXPECT_TRUE(absl::IsOutOfRange((*engine)->Forward(*session, {4}, 1, false)));
  EXPECT_EQ(session->position(), 64u);
}

TEST(EngineFailures, ContextThatIsNoMultipleOfAPageIsKeptTo) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup setup;
  setup.context_tokens = 100;
  const auto engine = OpenEngineWith(*model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const std::unique_ptr<Session> session = (*engine)->NewSession();
  ASSERT_TRUE((*engine)->Forward(*session, std::vector<TokenId>(100, 4), 1, false).ok());
  EXPECT_TRUE(absl::IsOutOfRange((*engine)->Forward(*session, {4}, 1, false)));
}

TEST(EngineFailures, TokensOutsideTheVocabularyAreRefused) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  const auto engine = OpenEngineWith(*model, EngineSetup());
  ASSERT_TRUE(engine.ok()) << engine.status();
  const std::unique_ptr<Session> session = (*engine)->NewSession();
  const auto vocabulary = static_cast<TokenId>(model->config.vocabulary);
  for (const TokenId bad : {-1, vocabulary, INT32_MAX}) {
    const absl::Status status = (*engine)->Forward(*session, {4, bad}, 1, false);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(bad)));
  }
  EXPECT_EQ(session->position(), 0u);
  EXPECT_TRUE((*engine)->Forward(*session, {0, vocabulary - 1}, 1, false).ok());
}

TEST(EngineFailures, UnknownReaderAndIsaAreRefusedByName) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup setup;
  setup.engine.reader = "carrier-pigeon";
  const auto no_reader = OpenEngineWith(*model, setup);
  EXPECT_TRUE(absl::IsInvalidArgument(no_reader.status()));
  EXPECT_THAT(std::string(no_reader.status().message()), HasSubstr("carrier-pigeon"));
  setup.engine.reader = "auto";
  setup.engine.isa = "abacus";
  const auto no_isa = OpenEngineWith(*model, setup);
  EXPECT_TRUE(absl::IsInvalidArgument(no_isa.status()));
  EXPECT_THAT(std::string(no_isa.status().message()), HasSubstr("abacus"));
}

// Destroyed with reads in flight: what was read ahead for a pass that never comes.
TEST(EngineFailures, DestroyedWhileReadingAhead) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  for (int i = 0; i < 20; ++i) {
    EngineSetup setup;
    setup.resident_share = i % 2 == 0 ? 0.0 : 0.5;
    setup.engine.threads = 2;
    setup.engine.reader = i % 4 < 2 ? "threads" : "auto";
    const auto engine = OpenEngineWith(*model, setup);
    ASSERT_TRUE(engine.ok()) << engine.status();
    const std::unique_ptr<Session> session = (*engine)->NewSession();
    ASSERT_TRUE((*engine)->Forward(*session, kPrompt, 1, /*expect_more=*/true).ok());
  }
}

// A read that never ends: one error that says so, no hang, and then nothing runs in memory that the
// read may still write to.
TEST(EngineFailures, AStuckReadEndsInOneErrorAndTheEngineStops) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  for (const char* reader : {"auto", "threads"}) {
    EngineSetup setup;
    setup.resident_share = 0.25;
    setup.engine.reader = reader;
    setup.engine.read_timeout_ns = 50'000'000;
    setup.engine.faults = FaultOptions{.stuck_at = 60};
    SCOPED_TRACE(setup.Text());
    const auto engine = OpenEngineWith(*model, setup);
    ASSERT_TRUE(engine.ok()) << engine.status();
    const std::unique_ptr<Session> session = (*engine)->NewSession();
    absl::Status status;
    for (int i = 0; i < 100 && status.ok(); ++i) {
      status = (*engine)->Forward(*session, kPrompt, 1, true);
    }
    ASSERT_TRUE(absl::IsDeadlineExceeded(status)) << status;
    for (const char* part : {"tiny.gguf: offset ", "wanted ", "got 0", "50 ms", "--read-timeout"}) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(part));
    }
    const absl::Status later = (*engine)->Forward(*session, kPrompt, 1, false);
    EXPECT_TRUE(absl::IsFailedPrecondition(later)) << later;
    EXPECT_THAT(std::string(later.message()), HasSubstr("1 read has had no answer"));
  }
}

TEST(EngineFailures, WhoCancelsDoesNotWaitForAStuckRead) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  std::atomic<bool> cancel = false;
  EngineSetup setup;
  setup.engine.cancel = &cancel;
  setup.engine.faults = FaultOptions{.stuck_at = 40};
  const auto engine = OpenEngineWith(*model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const std::unique_ptr<Session> session = (*engine)->NewSession();
  std::thread user([&cancel] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    cancel = true;
  });
  absl::Status status;
  while (status.ok()) {
    const std::unique_ptr<Session> each = (*engine)->NewSession();
    status = (*engine)->Forward(*each, kPrompt, 1, true);
  }
  user.join();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
}

TEST(EngineFailures, AnUnpluggedDiskIsNamed) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup setup;
  setup.resident_share = 0;
  setup.engine.faults = FaultOptions{.unplug_at = 100};
  const auto engine = OpenEngineWith(*model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const absl::Status status = Greedy(**engine, kPrompt, 100).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("tiny.gguf: offset "));
}

// The model's file changes while it is read: nothing that was computed from both is handed out.
class ChangedFile : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::copy_file("tests/data/tiny.gguf", path_,
                               std::filesystem::copy_options::overwrite_existing);
    auto model = LoadModel(path_);
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    EngineSetup setup;
    setup.resident_share = 0.25;
    auto engine = OpenEngineWith(*model_, setup);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
    ASSERT_TRUE(Greedy(*engine_, kPrompt, 2).ok());
  }
  void TearDown() override { std::filesystem::remove(path_); }

  const std::string path_ = testing::TempDir() + "/weir_changed.gguf";
  std::unique_ptr<Model> model_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(ChangedFile, CutShort) {
  std::filesystem::resize_file(path_, 300000);
  const absl::Status status = Greedy(*engine_, kPrompt, 2).status();
  EXPECT_TRUE(absl::IsOutOfRange(status)) << status;
  for (const char* part : {"weir_changed.gguf: offset ", "wanted ", "got ", "ends there"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

TEST_F(ChangedFile, WrittenTo) {
  std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(-100, std::ios::end);
  file << "other weights";
  file.close();
  ASSERT_TRUE(file.good());
  const absl::Status status = Greedy(*engine_, kPrompt, 2).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("written to while it was read"));
}

TEST_F(ChangedFile, ReplacedByAnother) {
  const auto expected = Greedy(*engine_, kPrompt, 4);
  ASSERT_TRUE(expected.ok());
  const std::string other = path_ + ".other";
  std::ofstream(other) << "not a model";
  std::filesystem::rename(other, path_);
  const auto made = Greedy(*engine_, kPrompt, 4);
  ASSERT_TRUE(made.ok()) << "the file that was opened is still there: " << made.status();
  EXPECT_EQ(*made, *expected);
}

TEST(EngineCounters, BytesAndTracesSayWhatHappened) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup setup;
  setup.resident_share = 0;
  setup.engine.trace_records = 10000;
  const auto engine = OpenEngineWith(*model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  ASSERT_TRUE(Greedy(**engine, kPrompt, 5).ok());
  const EngineStats stats = (*engine)->stats();
  EXPECT_EQ(stats.scheduler.passes, 5u);
  // Everything streams, so every pass reads every weight at least once.
  EXPECT_GE(stats.reader.bytes_read, 5 * (*engine)->program().payload_bytes());
  EXPECT_GT(stats.scheduler.compute_ns, 0);
  EXPECT_GT(stats.scheduler.disk_busy_ns, 0);
  ASSERT_NE((*engine)->trace(), nullptr);
  EXPECT_EQ((*engine)->trace()->dropped(), 0u);
}

}  // namespace
}  // namespace weir
