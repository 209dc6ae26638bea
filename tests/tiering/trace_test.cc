#include "tiering/trace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/tiering/synthetic_helper.h"

namespace weir {
namespace {

using Json = nlohmann::json;

Json Parse(const std::string& text) {
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

TEST(TraceTest, WritesTheTraceEventFormat) {
  const Program program = UniformProgram({});
  Trace trace(16);
  trace.Add({Trace::Lane::kDisk, 1, 3, 1000, 5000});
  trace.Add({Trace::Lane::kDisk, 0, Transfer::kOwnMemory, 2000, 3000});
  trace.Add({Trace::Lane::kCompute, 1, 0, 5000, 7500});
  trace.Add({Trace::Lane::kPass, 4, 0, 1000, 8000});
  const Json document = Parse(trace.ToPerfettoJson(program));
  ASSERT_TRUE(document.is_object());
  EXPECT_EQ(document["displayTimeUnit"], "ms");
  EXPECT_EQ(document["otherData"]["dropped_records"], 0);
  std::map<std::string, Json> by_name;
  std::map<int, std::string> tracks;
  for (const Json& event : document["traceEvents"]) {
    ASSERT_TRUE(event["pid"].is_number_integer());
    if (event["ph"] == "M") {
      if (event["name"] == "process_name") {
        EXPECT_EQ(event["args"]["name"], "weir run");
        continue;
      }
      EXPECT_EQ(event["name"], "thread_name");
      tracks[event["tid"].get<int>()] = event["args"]["name"].get<std::string>();
    } else {
      ASSERT_EQ(event["ph"], "X");
      by_name[event["name"].get<std::string>()] = event;
    }
  }
  ASSERT_EQ(by_name.size(), 3u);  // "blk.0.0" is a block's name and its step's
  EXPECT_TRUE(by_name.contains("pass 4"));
  EXPECT_TRUE(by_name.contains("rows"));
  EXPECT_DOUBLE_EQ(by_name["rows"]["ts"].get<double>(), 1.0);  // microseconds after the first
  EXPECT_DOUBLE_EQ(by_name["rows"]["dur"].get<double>(), 1.0);
  EXPECT_EQ(by_name["rows"]["args"]["slot"], "own memory");
  for (const auto& [name, event] : by_name) EXPECT_TRUE(tracks.contains(event["tid"].get<int>()));
}

TEST(TraceTest, OverlappingTransfersLieOnDifferentTracks) {
  SimHardware hardware;
  hardware.disk_bytes_per_s = 1e9;
  const Program program = UniformProgram({});
  Rig rig(program, *MakePlanForResidentShare(program, 0.25, SmallOverhead()), hardware, {});
  ASSERT_TRUE(rig.RunPasses(4, {}).ok());
  const Json document = Parse(rig.trace.ToPerfettoJson(rig.program));
  ASSERT_TRUE(document.is_object());
  std::map<int, std::vector<std::pair<double, double>>> spans;
  size_t complete = 0;
  for (const Json& event : document["traceEvents"]) {
    if (event["ph"] != "X") continue;
    ++complete;
    const double begin = event["ts"].get<double>();
    spans[event["tid"].get<int>()].push_back({begin, begin + event["dur"].get<double>()});
  }
  EXPECT_EQ(complete, rig.trace.records().size());
  EXPECT_GT(spans.size(), 4u);  // compute, passes and several transfers at once
  for (auto& [track, list] : spans) {
    std::sort(list.begin(), list.end());
    for (size_t i = 1; i < list.size(); ++i) {
      EXPECT_LE(list[i - 1].second, list[i].first + 1e-6) << "track " << track;
    }
  }
}

TEST(TraceTest, SaysWhoseTraceItIs) {
  Trace trace(1);
  trace.Add({Trace::Lane::kPass, 0, 0, 0, 1});
  const Json document =
      Parse(trace.ToPerfettoJson(UniformProgram({}), {.name = "weir simulate", .id = 2}));
  bool named = false;
  for (const Json& event : document["traceEvents"]) {
    EXPECT_EQ(event["pid"], 2);
    if (event["name"] == "process_name") named = event["args"]["name"] == "weir simulate";
  }
  EXPECT_TRUE(named);
}

TEST(TraceTest, AnAcceleratorAndItsLinkHaveRowsOfTheirOwn) {
  const Program program = UniformProgram({});
  Trace trace(8);
  trace.Add({Trace::Lane::kCopy, 1, 2, 0, 1000});
  trace.Add({Trace::Lane::kAccelerator, 1, 0, 1000, 3000});
  trace.Add({Trace::Lane::kCompute, 2, 0, 1000, 2000});
  trace.Add({Trace::Lane::kDisk, 3, 0, 0, 2000});
  const Json document = Parse(trace.ToPerfettoJson(program));
  std::map<std::string, int> tracks;
  for (const Json& event : document["traceEvents"]) {
    if (event["name"] != "thread_name") continue;
    tracks[event["args"]["name"].get<std::string>()] = event["tid"].get<int>();
  }
  ASSERT_EQ(tracks.size(), 5u);
  for (const char* name : {"accelerator", "CPU", "link", "disk 0", "passes"}) {
    EXPECT_TRUE(tracks.contains(name)) << name;
  }
  for (const Json& event : document["traceEvents"]) {
    if (event["ph"] != "X" || event["tid"] != tracks["link"]) continue;
    EXPECT_EQ(event["name"], "blk.0.0");
    EXPECT_EQ(event["args"]["slot"], 2);
    EXPECT_EQ(event["args"]["bytes"], 1 << 20);
  }
}

TEST(TraceTest, CountsWhatItHasNoRoomFor) {
  Trace trace(2);
  for (int i = 0; i < 5; ++i) trace.Add({Trace::Lane::kPass, 0, 0, i, i + 1});
  EXPECT_EQ(trace.records().size(), 2u);
  EXPECT_EQ(trace.dropped(), 3u);
  const Json document = Parse(trace.ToPerfettoJson(UniformProgram({})));
  EXPECT_EQ(document["otherData"]["dropped_records"], 3);
}

TEST(TraceTest, AnEmptyTraceIsStillJson) {
  EXPECT_TRUE(Parse(Trace(0).ToPerfettoJson(UniformProgram({}))).is_object());
}

TEST(TraceTest, LabelsOfAnyBytesStayJson) {
  Program program = UniformProgram({});
  program.blocks[1].label = "bad \xff\xc3 \" \\ \n name";
  Trace trace(1);
  trace.Add({Trace::Lane::kDisk, 1, 0, 0, 1});
  EXPECT_TRUE(Parse(trace.ToPerfettoJson(program)).is_object());
}

}  // namespace
}  // namespace weir
