#include "tiering/trace.h"

#include <algorithm>
#include <limits>

#include "nlohmann/json.hpp"
#include "tiering/machine.h"

namespace weir {
namespace {

using Json = nlohmann::json;

// Perfetto shows one track for each thread id.
constexpr int kComputeTrack = 1;
constexpr int kPassTrack = 2;
constexpr int kAcceleratorTrack = 3;
constexpr int kCopyTrack = 4;
constexpr int kFirstDiskTrack = 10;
constexpr double kMicrosPerNano = 1e-3;

// `what` is thread_name or process_name.
Json Name(const char* what, int process, int track, const std::string& name) {
  return {
      {"ph", "M"}, {"pid", process}, {"tid", track}, {"name", what}, {"args", {{"name", name}}}};
}

std::string RecordName(const Trace::Record& record, const Program& program) {
  switch (record.lane) {
    case Trace::Lane::kDisk:
    case Trace::Lane::kCopy:
      return program.blocks[record.id].label;
    case Trace::Lane::kCompute:
    case Trace::Lane::kAccelerator:
      return program.steps[record.id].label;
    case Trace::Lane::kPass:
      break;
  }
  return "pass " + std::to_string(record.id);
}

int TrackOf(Trace::Lane lane) {
  switch (lane) {
    case Trace::Lane::kCompute:
      return kComputeTrack;
    case Trace::Lane::kCopy:
      return kCopyTrack;
    case Trace::Lane::kAccelerator:
      return kAcceleratorTrack;
    case Trace::Lane::kDisk:  // has many: DiskTrack
    case Trace::Lane::kPass:
      break;
  }
  return kPassTrack;
}

// First disk track that is free at `begin_ns`; `busy_until` grows as transfers overlap.
int DiskTrack(int64_t begin_ns, int64_t end_ns, std::vector<int64_t>* busy_until) {
  for (size_t i = 0; i < busy_until->size(); ++i) {
    if ((*busy_until)[i] > begin_ns) continue;
    (*busy_until)[i] = end_ns;
    return kFirstDiskTrack + static_cast<int>(i);
  }
  busy_until->push_back(end_ns);
  return kFirstDiskTrack + static_cast<int>(busy_until->size()) - 1;
}

}  // namespace

Trace::Trace(size_t capacity) { records_.reserve(capacity); }

void Trace::Add(const Record& record) {
  if (records_.size() == records_.capacity()) {
    ++dropped_;
    return;
  }
  records_.push_back(record);
}

std::string Trace::ToPerfettoJson(const Program& program, const Process& process) const {
  std::vector<Record> sorted = records_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Record& a, const Record& b) { return a.begin_ns < b.begin_ns; });
  const int64_t origin_ns = sorted.empty() ? 0 : sorted.front().begin_ns;
  Json events = Json::array();
  std::vector<int64_t> busy_until;
  bool has_accelerator = false;
  for (const Record& record : sorted) {
    int track = TrackOf(record.lane);
    has_accelerator = has_accelerator || track == kAcceleratorTrack || track == kCopyTrack;
    Json args = Json::object();
    if (record.lane == Lane::kDisk) {
      track = DiskTrack(record.begin_ns, record.end_ns, &busy_until);
    }
    if (record.lane == Lane::kDisk || record.lane == Lane::kCopy) {
      args["bytes"] = program.blocks[record.id].payload_bytes;
      args["slot"] = record.slot == Transfer::kOwnMemory ? Json("own memory") : Json(record.slot);
    }
    events.push_back(
        {{"ph", "X"},
         {"pid", process.id},
         {"tid", track},
         {"ts", static_cast<double>(record.begin_ns - origin_ns) * kMicrosPerNano},
         {"dur", static_cast<double>(record.end_ns - record.begin_ns) * kMicrosPerNano},
         {"name", RecordName(record, program)},
         {"args", std::move(args)}});
  }
  events.push_back(Name("process_name", process.id, 0, process.name));
  events.push_back(
      Name("thread_name", process.id, kComputeTrack, has_accelerator ? "CPU" : "compute"));
  events.push_back(Name("thread_name", process.id, kPassTrack, "passes"));
  if (has_accelerator) {
    events.push_back(Name("thread_name", process.id, kAcceleratorTrack, "accelerator"));
    events.push_back(Name("thread_name", process.id, kCopyTrack, "link"));
  }
  for (size_t i = 0; i < busy_until.size(); ++i) {
    events.push_back(Name("thread_name", process.id, kFirstDiskTrack + static_cast<int>(i),
                          "disk " + std::to_string(i)));
  }
  const Json document = {{"displayTimeUnit", "ms"},
                         {"traceEvents", std::move(events)},
                         {"otherData", {{"dropped_records", dropped_}}}};
  // Labels hold tensor names, which a file may have put together from any bytes.
  return document.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace weir
