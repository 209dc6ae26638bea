// A trace of any records over a program whose labels are any bytes: its JSON must parse, hold every
// record once and give the times and names back.
//
// Input: a byte with the number of labels, the labels, each ended by a zero, then records of 12
// bytes: lane, id, slot, a spare byte, begin, duration (32 bits each, in microseconds).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "io/base.h"
#include "nlohmann/json.hpp"
#include "tiering/machine.h"
#include "tiering/trace.h"

namespace weir {
namespace {

using Json = nlohmann::json;

Program ProgramOf(std::string_view* input) {
  Program program;
  const size_t count = input->empty() ? 1 : 1 + static_cast<unsigned char>((*input)[0]) % 8;
  input->remove_prefix(std::min<size_t>(1, input->size()));
  for (size_t i = 0; i < count; ++i) {
    const size_t end = std::min(input->find('\0'), input->size());
    Block block;
    block.label = std::string(input->substr(0, end));
    block.payload_bytes = ~uint64_t{0} >> i;
    Step step;
    step.label = block.label;
    program.blocks.push_back(block);
    program.steps.push_back(step);
    input->remove_prefix(std::min(end + 1, input->size()));
  }
  return program;
}

Trace::Record RecordOf(std::string_view bytes, size_t labels) {
  uint32_t begin_us = 0;
  uint32_t duration_us = 0;
  std::memcpy(&begin_us, bytes.data() + 4, sizeof(begin_us));
  std::memcpy(&duration_us, bytes.data() + 8, sizeof(duration_us));
  Trace::Record record;
  record.lane = static_cast<Trace::Lane>(static_cast<unsigned char>(bytes[0]) % 5);
  record.id = static_cast<uint32_t>(static_cast<unsigned char>(bytes[1]) % labels);
  record.slot = bytes[2] == '\xff' ? Transfer::kOwnMemory : static_cast<unsigned char>(bytes[2]);
  record.begin_ns = int64_t{begin_us} * 1000;
  record.end_ns = record.begin_ns + int64_t{duration_us} * 1000;
  return record;
}

// Of an array of numbers too long for int64 nothing is compared: only what Trace wrote itself is.
void CheckTrace(const Trace& trace, const Program& program) {
  const std::string text = trace.ToPerfettoJson(program);
  const Json document = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  WEIR_CHECK(document.is_object() && document["traceEvents"].is_array());
  size_t records = 0;
  double total_us = 0;
  for (const Json& event : document["traceEvents"]) {
    WEIR_CHECK(event["name"].is_string() && event["ph"].is_string());
    if (event["ph"] != "X") continue;
    WEIR_CHECK(event["ts"].is_number() && event["ts"].get<double>() >= 0);
    total_us += event["dur"].get<double>();
    ++records;
  }
  double expected_us = 0;
  for (const Trace::Record& record : trace.records()) {
    expected_us += static_cast<double>(record.end_ns - record.begin_ns) / 1000;
  }
  WEIR_CHECK(records == trace.records().size());
  WEIR_CHECK(std::abs(total_us - expected_us) <= 1e-6 * expected_us + 1e-3);
  WEIR_CHECK(document["otherData"]["dropped_records"] == trace.dropped());
  // What is read back and written again is the same text.
  WEIR_CHECK(Json::parse(document.dump(), nullptr, false) == document);
}

}  // namespace
}  // namespace weir

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  const weir::Program program = weir::ProgramOf(&input);
  constexpr size_t kRecordBytes = 12;
  weir::Trace trace(/*capacity=*/64);
  while (input.size() >= kRecordBytes) {
    trace.Add(weir::RecordOf(input.substr(0, kRecordBytes), program.blocks.size()));
    input.remove_prefix(kRecordBytes);
  }
  weir::CheckTrace(trace, program);
  return 0;
}
